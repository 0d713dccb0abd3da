//! The broker's configuration and access list that SPEC-wire gives as an example, held to what it promises: they are
//! taken out of the text and given to a real Mosquitto, and gateways and an operator, each with a certificate of their
//! own, try what they may and what they may not.

mod support;

use mainstay::transport::{BrokerConfig, ControlLink, Event, Events};
use mainstay_core::digest::Digest;
use mainstay_core::topic::{self, Leaf};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::path::Path;
use std::time::{Duration, Instant};
use support::FLEET;
use support::mosquitto::{MosquittoFixture, Options};
use support::peer::wait_for;

const SPEC: &str = include_str!("../../docs/SPEC-wire.md");
const PATIENCE: Duration = Duration::from_secs(15);

/// The lines of the block that begins with "```INFO" in the specification.
fn block(info: &str) -> &'static str {
    let (_, rest) = SPEC.split_once(&format!("```{info}\n")).expect("the specification has the block");
    rest.split_once("```").expect("the block ends").0
}

/// A CA, and one certificate for each common name: `NAME.pem` and `NAME.key`.
fn issue(folder: &Path, names: &[&str]) {
    let key = KeyPair::generate().expect("key");
    let mut params = CertificateParams::new(Vec::new()).expect("params");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, format!("CA of {}", folder.display()));
    std::fs::write(folder.join("ca.pem"), params.self_signed(&key).expect("root").pem()).expect("write");
    let issuer = Issuer::new(params, key);
    for name in names {
        let key = KeyPair::generate().expect("key");
        let mut params = CertificateParams::new(vec![name.to_string()]).expect("params");
        params.distinguished_name.push(DnType::CommonName, *name);
        let signed = params.signed_by(&key, &issuer).expect("sign");
        std::fs::write(folder.join(format!("{name}.pem")), signed.pem()).expect("write");
        std::fs::write(folder.join(format!("{name}.key")), key.serialize_pem()).expect("write");
    }
}

/// A Mosquitto as the specification sets it up.
struct Site {
    folder: tempfile::TempDir,
    port: u16,
    _broker: MosquittoFixture,
}

impl Site {
    fn new() -> Option<Site> {
        let folder = tempfile::tempdir().expect("folder");
        issue(folder.path(), &["localhost", "gw-1", "gw-2", "operator", "stranger"]);
        std::fs::write(folder.path().join("acl"), block("acl")).expect("acl");
        let port = support::free_port();
        let conf = block("mosquitto.conf")
            .replace("listener 8883", &format!("listener {port} 127.0.0.1"))
            .replace("/etc/mosquitto/broker", &folder.path().join("localhost").display().to_string())
            .replace("/etc/mosquitto", &folder.path().display().to_string())
            .replace("/var/lib/mosquitto", &folder.path().display().to_string());
        let broker = MosquittoFixture::start(Options { more: &conf, ..Options::default() })?;
        let site = Site { folder, port, _broker: broker };
        support::eventually(PATIENCE, "the listener with TLS is there", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Some(site)
    }

    /// Connects as `id` with the certificate of `name`, and waits until it stands.
    fn connect(&self, name: &str, id: &str, subscriptions: &[&str]) -> Client {
        let path = |end: &str| self.folder.path().join(format!("{name}.{end}"));
        let config = BrokerConfig {
            url: format!("mqtts://localhost:{}", self.port),
            allow_plain: false,
            device: id.into(),
            ca: self.folder.path().join("ca.pem"),
            cert: path("pem"),
            key: path("key"),
            ..support::plain(self.port)
        };
        let will = (topic::device(FLEET, id, Leaf::State).to_string(), b"gone".to_vec());
        let subscriptions = subscriptions.iter().map(ToString::to_string).collect();
        let (link, mut events) =
            ControlLink::start(&support::broker(config), subscriptions, will, || b"here".to_vec())
                .expect("started");
        wait_for(&mut events, PATIENCE, |e| matches!(e, Event::Connected { .. }).then_some(()));
        Client { link, events, tickets: 0, heard: Vec::new() }
    }
}

struct Client {
    link: ControlLink,
    events: Events,
    tickets: u64,
    /// Topics of all that came.
    heard: Vec<String>,
}

impl Client {
    /// Did the broker take it?
    fn may_write(&mut self, topic: &str) -> bool {
        self.tickets += 1;
        let ours = Some(self.tickets);
        self.link.publish(topic, topic.as_bytes(), true, ours).expect("queued");
        let Client { events, heard, .. } = self;
        wait_for(events, PATIENCE, |event| match event {
            Event::Acknowledged { ticket } if Some(*ticket) == ours => Some(true),
            Event::Refused { ticket, what } if *ticket == ours => {
                assert!(what.contains("NotAuthorized"), "{what}");
                Some(false)
            }
            Event::Message { topic, .. } => {
                heard.push(topic.clone());
                None
            }
            _ => None,
        })
    }

    /// Waits until it has heard each of `topics`.
    fn hears(&mut self, topics: &[String]) {
        let begun = Instant::now();
        while !topics.iter().all(|topic| self.heard.contains(topic)) {
            match self.events.try_next() {
                Some(Event::Message { topic, .. }) => self.heard.push(topic),
                Some(_) => {}
                None => std::thread::sleep(Duration::from_millis(2)),
            }
            assert!(begun.elapsed() < PATIENCE, "expected {topics:?}, heard {:?}", self.heard);
        }
    }
}

/// `mainstay/1/plant/` and what follows it.
fn t(rest: &str) -> String {
    format!("mainstay/1/{FLEET}/{rest}")
}

/// Topics that nobody but an operator writes.
fn down() -> Vec<String> {
    let name = Digest::of(b"x");
    let topics = ["g/line-1/desired", "d/gw-1/desired", "d/gw-1/data", "t/2"].map(t);
    topics.into_iter().chain([t(&format!("m/{name}")), t(&format!("c/{name}"))]).collect()
}

#[test]
fn a_gateway_writes_its_own_messages_and_nothing_else() {
    let Some(site) = Site::new() else { return };
    let mut gateway = site.connect("gw-1", "gw-1", &[]);
    for leaf in ["state", "report", "prog", "need"] {
        assert!(gateway.may_write(&t(&format!("d/gw-1/{leaf}"))), "{leaf}");
        assert!(!gateway.may_write(&t(&format!("d/gw-2/{leaf}"))), "{leaf} of another");
    }
    for topic in down().into_iter().chain([t("d/gw-1/other"), t("d/gw-1"), "elsewhere".into()]) {
        assert!(!gateway.may_write(&topic), "{topic}");
    }
}

#[test]
fn a_gateway_is_who_its_certificate_says_whatever_it_calls_itself() {
    let Some(site) = Site::new() else { return };
    let mut liar = site.connect("gw-2", "gw-1", &[]);
    assert!(!liar.may_write(&t("d/gw-1/state")));
    assert!(liar.may_write(&t("d/gw-2/state")));
    let mut stranger = site.connect("stranger", "operator", &[]);
    for topic in down() {
        assert!(!stranger.may_write(&topic), "{topic}");
    }
}

#[test]
fn an_operator_writes_what_goes_down_and_cannot_speak_for_a_gateway() {
    let Some(site) = Site::new() else { return };
    let mut operator = site.connect("operator", "operator", &[]);
    for topic in down() {
        assert!(operator.may_write(&topic), "{topic}");
    }
    for leaf in ["state", "report", "prog", "need"] {
        assert!(!operator.may_write(&t(&format!("d/gw-1/{leaf}"))), "{leaf}");
    }
}

#[test]
fn a_gateway_hears_what_is_meant_for_it_and_not_what_is_meant_for_or_said_by_others() {
    let Some(site) = Site::new() else { return };
    let mut operator = site.connect("operator", "operator", &[&t("d/+/state"), &t("d/+/need")]);
    let mut second = site.connect("gw-2", "gw-2", &[&t("#")]);
    let mut first = site.connect("gw-1", "gw-1", &[&t("d/gw-1/desired"), &t("d/gw-1/data"), &t("t/2")]);
    assert!(first.may_write(&t("d/gw-1/need")));
    for topic in down() {
        assert!(operator.may_write(&topic), "{topic}");
    }
    let last = t("d/gw-2/desired"); // one sender's messages come in order: what was to come before it has come
    assert!(operator.may_write(&last));

    first.hears(&["d/gw-1/desired", "d/gw-1/data", "t/2"].map(t));
    operator.hears(&["d/gw-1/state", "d/gw-1/need", "d/gw-2/state"].map(t));
    let for_all: Vec<String> = down().into_iter().filter(|topic| !topic.starts_with(&t("d/"))).collect();
    second.hears(&for_all);
    second.hears(&[last]);
    assert!(!second.heard.iter().any(|topic| topic.starts_with(&t("d/gw-1/"))), "{:?}", second.heard);
}
