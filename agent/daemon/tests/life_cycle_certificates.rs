//! Certificates that run out, and a clock that is behind them, around a gateway with a real broker.
//!
//! Goal: what is on trial is decided by its checks and by nothing else; what could not be said is said when the link is
//! back; and each attempt until then names the side that has to be mended.

mod gateway;
mod life;
mod support;

use gateway::*;
use life::*;
use mainstay_core::boot::Group;
use mainstay_core::topic::Leaf;
use mainstay_core::update::OutcomeKind;
use std::time::{SystemTime, UNIX_EPOCH};
use support::mosquitto::{MosquittoFixture, Options};
use support::pki::Pki;

const YEAR_S: u64 = 366 * 24 * 3_600;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The gateway comes by TLS, with a certificate; operator and watchers by a plain listener of the same broker.
fn site(pki: &Pki, more: &str) -> Option<Site> {
    let plain = support::free_port();
    let listener = format!("listener {plain} 127.0.0.1");
    let options = Options { tls: Some(pki), persistent: true, more: &listener, ..Options::default() };
    let mut broker = MosquittoFixture::start(options)?;
    let [ca, cert, key] = [&pki.ca, &pki.client.cert, &pki.client.key].map(|path| path.display().to_string());
    let machine = Machine::new(&format!(
        "[broker]\nurl = \"mqtts://localhost:{}\"\nca = \"{ca}\"\ncert = \"{cert}\"\nkey = \"{key}\"\n\
         group = \"line-1\"\n[update]\nretry_s = 1\n{more}",
        broker.port
    ));
    broker.port = plain;
    Some(Site { machine, broker })
}

/// One side's certificate ends while the trial runs. A link that stands is not cut for it, so the broker is started
/// anew: from then on no attempt succeeds until there is a new certificate.
fn ends_during_a_trial(server: bool, said: &str) {
    let pki = Pki::new("localhost");
    let Some(mut site) = site(&pki, HEALTHY_FILE) else { return };
    let mut bundle = Workshop::new("2.0", 1);
    bundle.manifest.trial.deadline_s = 3_600;
    let name = site.publish(&bundle);
    site.desire(name, 1);
    site.machine.start();
    site.machine.until_it_goes_down();
    let end = now() + 3;
    pki.issue_anew(server, end - YEAR_S, end);
    site.broker.stop();
    site.broker.restart();
    assert_eq!(site.machine.boot(), Group::B);
    site.machine.until_log("check \"plant\": attempt 1 failed");
    support::eventually(PATIENCE, "the end of its time", || now() > end + 1);
    site.broker.stop();
    site.broker.restart();
    site.machine.until(&[said]);
    site.machine.gateway.put("healthy", b"");
    site.machine.until(&["\"phase\":\"settled\"", "\"kind\":\"committed\"", "\"unreported\":1"]);
    assert!(!site.machine.goes_down());

    let reports = site.watch(Leaf::Report);
    pki.issue_anew(server, end - YEAR_S, end + YEAR_S);
    if server {
        site.broker.reads_its_certificate_anew();
    } else {
        // Our own is read at the agent's start.
        site.machine.kill();
        site.machine.start();
    }
    site.machine.until(&["\"kind\":\"committed\"", "\"unreported\":0"]);
    let outcome = reports.outcome();
    assert_eq!((outcome.kind, outcome.manifest), (OutcomeKind::Committed, name));
    assert!(!site.machine.goes_down());
}

#[test]
fn a_brokers_certificate_that_ends_during_a_trial_changes_nothing_and_the_outcome_follows() {
    ends_during_a_trial(true, "broker's certificate: expired");
}

#[test]
fn a_gateways_certificate_that_ends_during_a_trial_changes_nothing_and_the_outcome_follows() {
    ends_during_a_trial(false, "client certificate refused by the broker: CertificateExpired");
}

/// A plausible clock, behind the certificate's start: it cannot be told from a certificate that is not yet for use. As
/// soon as the clock says so, the gateway connects, and nobody has to come for it.
#[test]
fn a_clock_behind_the_certificates_start_is_said_and_the_link_comes_by_itself_once_it_is_right() {
    let pki = Pki::new("localhost");
    let begins = now() + 6;
    pki.issue_anew(true, begins, begins + YEAR_S);
    let Some(mut site) = site(&pki, "") else { return };
    site.machine.start();
    site.machine.until(&["not valid before", "here: check the clock"]);
    assert!(now() < begins, "too late to see anything");
    site.machine.until(&["\"state\":\"connected\""]);
    assert!(now() >= begins, "connected before its start");
}
