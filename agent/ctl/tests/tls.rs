//! TLS with client certificates, against a real Mosquitto: who we are is proven, who the broker is too, and what
//! is wrong with either is said.

mod common;

use common::client::kept;
use common::{Desk, Mosquitto};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SanType};

/// Two authorities, a certificate of the broker and one of an operator by each.
fn certificates(desk: &Desk) {
    for authority in ["good", "other"] {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = name(authority);
        desk.write(&format!("{authority}-ca.pem"), params.self_signed(&key).expect("a certificate").pem());
        let issuer = Issuer::new(params, key);
        for (who, address) in [("broker", "127.0.0.1"), ("elsewhere", "127.0.0.2"), ("ops", "127.0.0.3")] {
            let key = KeyPair::generate().expect("a key");
            let mut params = CertificateParams::new(Vec::new()).expect("parameters");
            params.subject_alt_names = vec![SanType::IpAddress(address.parse().expect("an address"))];
            params.distinguished_name = name(who);
            let certificate = params.signed_by(&key, &issuer).expect("a certificate");
            desk.write(&format!("{authority}-{who}.pem"), certificate.pem());
            desk.write(&format!("{authority}-{who}.key"), key.serialize_pem());
        }
    }
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

fn broker(desk: &Desk, certificate: &str, plain_port: u16) -> Option<Mosquitto> {
    let path = |name: String| desk.path(&name).display().to_string();
    let [ca, cert, key] =
        [path("good-ca.pem".into()), path(format!("{certificate}.pem")), path(format!("{certificate}.key"))];
    // Who may write is decided by the name in the certificate.
    desk.write("acl", "topic read #\nuser ops\ntopic write mainstay/1/plant/#\n");
    let acl = path("acl".into());
    Mosquitto::start(&format!(
        "allow_anonymous true\ncafile {ca}\ncertfile {cert}\nkeyfile {key}\nrequire_certificate true\n\
         use_identity_as_username true\nacl_file {acl}\nlistener {plain_port} 127.0.0.1"
    ))
}

fn publish(desk: &Desk, url: &str, more: &[&str]) -> Result<String, String> {
    let base = [
        "publish",
        "x.bundle",
        "--trust",
        "trust.root",
        "--operator-key",
        "operator.key",
        "--group",
        "lab",
        "--broker",
        url,
    ];
    let output = desk.run(&[&base, more].concat());
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout).expect("text")),
        false => Err(String::from_utf8(output.stderr).expect("text")),
    }
}

#[test]
fn both_sides_prove_who_they_are() {
    let desk = Desk::furnished();
    desk.write("image", common::Dice(1).bytes(1_000_000));
    desk.bundle("x.bundle", &["rootfs=image"], "1.0.0");
    certificates(&desk);
    let plain_port = common::free_port();
    let Some(broker) = broker(&desk, "good-broker", plain_port) else { return };
    let url = format!("mqtts://127.0.0.1:{}", broker.port);
    #[rustfmt::skip]
    let wrong: [(&[&str], &str); 6] = [
        (&["--ca", "good-ca.pem"],                                                            "it wants a client certificate: add --cert and --key"),
        (&["--ca", "good-ca.pem", "--cert", "other-ops.pem", "--key", "other-ops.key"],       "it does not know who signed our certificate"),
        (&["--ca", "other-ca.pem", "--cert", "good-ops.pem", "--key", "good-ops.key"],        "the broker's certificate is refused"),
        (&["--ca", "good-ca.pem", "--cert", "good-ops.pem", "--key", "good-broker.key"],      "do not go together"),
        (&["--ca", "good-ops.key", "--cert", "good-ops.pem", "--key", "good-ops.key"],        "good-ops.key: expected certificates in PEM, found none"),
        (&["--ca", "good-ca.pem", "--cert", "good-elsewhere.pem", "--key", "good-elsewhere.key"], "NotAuthorized (0x87)"),
    ];
    for (more, expected) in wrong {
        let said = publish(&desk, &url, more).expect_err(expected);
        assert!(said.contains(expected), "{more:?}: expected {expected:?}: {said}");
    }
    assert!(kept(plain_port, "mainstay/#").is_empty());

    let more = ["--ca", "good-ca.pem", "--cert", "good-ops.pem", "--key", "good-ops.key"];
    publish(&desk, &url, &more).expect("published");
    assert!(kept(plain_port, "mainstay/#").contains_key("mainstay/1/plant/g/lab/desired"));

    // Neither side takes the other's words for its own.
    let said = publish(&desk, &format!("mqtt://127.0.0.1:{}", broker.port), &[]).expect_err("TLS is wanted");
    assert!(said.contains("without TLS"), "{said}");
    let said = publish(&desk, &format!("mqtts://127.0.0.1:{plain_port}"), &more).expect_err("no TLS there");
    assert!(said.contains("TLS handshake"), "{said}");
}

#[test]
fn a_broker_with_another_ones_certificate_is_not_believed() {
    let desk = Desk::furnished();
    desk.write("image", "content");
    desk.bundle("x.bundle", &["rootfs=image"], "1.0.0");
    certificates(&desk);
    let Some(broker) = broker(&desk, "good-elsewhere", common::free_port()) else { return };
    let url = format!("mqtts://127.0.0.1:{}", broker.port);
    let more = ["--ca", "good-ca.pem", "--cert", "good-ops.pem", "--key", "good-ops.key"];
    let said = publish(&desk, &url, &more).expect_err("another's name");
    assert!(said.contains("the broker's certificate is refused") && said.contains("127.0.0.1"), "{said}");
}
