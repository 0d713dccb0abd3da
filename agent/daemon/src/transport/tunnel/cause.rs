//! From rustls's and the system's errors to a sentence that says who refused what, and what to look at.

use super::super::config::Endpoint;
use super::Tls;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error};
use std::io;

/// Why the connection to the broker failed.
pub(in super::super) fn of(error: &io::Error, tls: &Tls, to: &Endpoint) -> String {
    match error.get_ref().and_then(|e| e.downcast_ref::<Error>()) {
        Some(tls_error) => of_tls(tls_error, &tls.ca, to),
        None => of_io(error, to),
    }
}

/// What a connection that stood can have ended by, when the broker does not say it. Mosquitto 2.0.11 does not say
/// SessionTakenOver: it closes, and TCP makes a reset of that if something of ours was still unread.
pub(in super::super) const CLOSED: &str =
    "the broker closed the connection without a word (a restart, or a second client with our id)";

/// The same for a connection that stood.
pub(super) fn of_established(error: &io::Error, tls: &Tls, to: &Endpoint) -> String {
    match error.get_ref().and_then(|e| e.downcast_ref::<Error>()) {
        Some(tls_error) => of_tls(tls_error, &tls.ca, to),
        None => of_lost(error, to),
    }
}

/// The same for a connection that stood, without TLS.
pub(in super::super) fn of_lost(error: &io::Error, to: &Endpoint) -> String {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    match error.kind() {
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof => format!("broker {to}: {CLOSED}"),
        _ => of_io(error, to),
    }
}

/// The same while the TLS session is being made: a peer that hangs up then has not understood us.
pub(super) fn of_handshake(error: &io::Error, tls: &Tls, to: &Endpoint) -> String {
    use io::ErrorKind::{ConnectionReset, UnexpectedEof};
    let hint = match error.kind() {
        ConnectionReset | UnexpectedEof => " during the TLS handshake: does it speak TLS at this port?",
        _ => "",
    };
    of(error, tls, to) + hint
}

/// The same for an error that has nothing to do with TLS.
pub(in super::super) fn of_io(error: &io::Error, to: &Endpoint) -> String {
    let what = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused: nothing listens there",
        io::ErrorKind::ConnectionReset => "connection reset by the broker",
        io::ErrorKind::UnexpectedEof => "the broker closed the connection without a word",
        io::ErrorKind::TimedOut => "no answer",
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => "no route to it",
        _ => return format!("broker {to}: {error}"),
    };
    format!("broker {to}: {what}")
}

fn of_tls(error: &Error, ca: &str, to: &Endpoint) -> String {
    use AlertDescription as Alert;
    match error {
        Error::InvalidCertificate(why) => {
            format!("broker {to}: broker's certificate: {}", of_certificate(why, ca, to))
        }
        Error::AlertReceived(Alert::ProtocolVersion) | Error::PeerIncompatible(_) => {
            format!("broker {to}: no TLS version or cipher in common, we speak TLS 1.3 only ({error})")
        }
        Error::AlertReceived(
            alert @ (Alert::UnknownCA
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::CertificateRequired
            | Alert::AccessDenied),
        ) => format!("broker {to}: our client certificate refused by the broker: {alert:?}"),
        Error::AlertReceived(alert) => format!("broker {to}: the broker ended the TLS session: {alert:?}"),
        Error::InvalidMessage(_) => format!("broker {to}: what answers there does not speak TLS ({error})"),
        error => format!("broker {to}: TLS: {error}"),
    }
}

fn of_certificate(why: &CertificateError, ca: &str, to: &Endpoint) -> String {
    match why {
        CertificateError::NotValidForNameContext { presented, .. } => {
            // rustls gives the names as webpki prints them: DnsName("broker")
            let bare = |name: &String| name.split('"').nth(1).unwrap_or(name).to_string();
            let presented: Vec<String> = presented.iter().map(bare).collect();
            format!("not valid for name {}; it is for {}", to.host, presented.join(", "))
        }
        CertificateError::NotValidForName => format!("not valid for name {}", to.host),
        CertificateError::ExpiredContext { time, not_after } => {
            format!("expired {}, and it is {} here", day(*not_after), day(*time))
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            format!("not valid before {}, and it is {} here: check the clock", day(*not_before), day(*time))
        }
        CertificateError::UnknownIssuer => format!("not issued by a CA in {ca}"),
        CertificateError::BadSignature => format!("its signature is not that of the CA in {ca}"),
        why => format!("{why}"),
    }
}

/// `YYYY-MM-DD`, UTC. Days to date as in Hinnant's chrono-compatible algorithms: years begin in March, so that the
/// leap day is the last one.
fn day(time: UnixTime) -> String {
    let days = time.as_secs() / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{}-{month:02}-{day:02}", era * 400 + year_of_era + carry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_735_689_599, "2024-12-31"),
            (1_735_689_600, "2025-01-01"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(day(UnixTime::since_unix_epoch(Duration::from_secs(seconds))), expected);
        }
    }

    #[test]
    fn every_way_of_losing_a_connection_that_stood_names_what_may_be_behind_it() {
        use io::ErrorKind::*;
        let to = Endpoint { tls: false, host: "broker.plant".into(), port: 1883 };
        for kind in [BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof] {
            let text = of_lost(&kind.into(), &to);
            assert!(text.contains("a second client with our id"), "{kind:?}: {text}");
        }
        assert!(of_lost(&HostUnreachable.into(), &to).contains("no route"));
    }

    #[test]
    fn each_refusal_says_who_refused_what() {
        let to = Endpoint { tls: true, host: "broker.plant".into(), port: 8883 };
        let alert = |a| Error::AlertReceived(a);
        let cases = [
            (alert(AlertDescription::UnknownCA), "our client certificate refused by the broker: UnknownCA"),
            (alert(AlertDescription::CertificateRequired), "our client certificate refused"),
            (alert(AlertDescription::ProtocolVersion), "TLS 1.3 only"),
            (
                CertificateError::UnknownIssuer.into(),
                "broker's certificate: not issued by a CA in fleet-ca.pem",
            ),
            (CertificateError::NotValidForName.into(), "not valid for name broker.plant"),
        ];
        for (error, expected) in cases {
            let text = of_tls(&error, "fleet-ca.pem", &to);
            assert!(text.contains(expected), "{text}");
        }
    }
}
