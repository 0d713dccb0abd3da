//! What has to be known to reach the broker. Reading it from TOML is the configuration's business; checking it is ours,
//! and all of it is checked before anything is dialled.

use super::backoff::Bounds;
use super::tunnel::Credentials;
use mainstay_core::{fault, fault::Fault, limits};
use std::path::PathBuf;
use std::time::Duration;

/// rumqttc asserts at least five seconds.
pub const KEEP_ALIVE_S_MIN: u16 = 5;
/// Half an hour: above it a dead broker would go unnoticed for most of a shift.
pub const KEEP_ALIVE_S_MAX: u16 = 1800;
/// See [`BrokerConfig::keep_alive_s`].
pub const KEEP_ALIVE_S_DEFAULT: u16 = 30;
/// Objects in flight at most; large ones meet [`WINDOW_KIB_DEFAULT`] first.
pub const WINDOW_MAX_DEFAULT: u16 = 16;
/// Their bytes: ten objects of 96 KiB. Each in memory costs about its size in RSS (measured); a window that the link does not
/// need is not opened (see `pull::window`), so that much is in memory only on a link that is long and fat.
pub const WINDOW_KIB_DEFAULT: u16 = 1024;
/// One object of the largest size.
pub const WINDOW_KIB_MIN: u16 = 96;
/// What 32 objects of the largest size have.
pub const WINDOW_KIB_MAX: u16 = 3072;
/// 32 * 96 KiB = 3 MiB: more than the memory budget has, for gateways with memory to spare on long fat links.
pub const WINDOW_MAX_LIMIT: u16 = 32;

/// How to reach the broker, and who we are to it.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// `mqtts://host[:8883]`, or `mqtt://host[:1883]` together with [`allow_plain`](Self::allow_plain).
    pub url: String,
    /// Says that `mqtt://`, all in the clear and no proof who anybody is, is meant.
    pub allow_plain: bool,
    /// This gateway's name: client id, and part of its topics. The broker should insist that it is the common
    /// name of the client certificate.
    pub device: String,
    /// The fleet that it belongs to.
    pub fleet: String,
    /// PEM file with the certificates that the broker's certificate must lead to. No others are trusted.
    pub ca: PathBuf,
    /// PEM file with our client certificate and what stands between it and the broker's CA.
    pub cert: PathBuf,
    /// PEM file with its private key (PKCS#8, SEC1 or PKCS#1).
    pub key: PathBuf,
    /// Seconds of silence after which we ping: the broker gives us up after one and a half times this.
    pub keep_alive_s: u16,
    /// The most objects asked for at once on the bulk connection.
    pub window_max: u16,
    /// And the most of their bytes, in KiB.
    pub window_kib: u16,
    /// Unix seconds. It is certainly later than this: when the firmware was built, or the newest time that the gateway
    /// has durable evidence of. See [`tunnel`](super::tunnel) for what a gateway with a dead clock does with it.
    pub time_floor_s: u64,
    /// Waits between attempts to reach the broker.
    pub reconnect: Bounds,
    /// Dialling, handshake and CONNACK together, in whole seconds: [`CONNECT_TIMEOUT`](super::link::CONNECT_TIMEOUT),
    /// and less only for who cannot wait so long for a broker that says nothing.
    pub connect_within: Duration,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        BrokerConfig {
            url: String::new(),
            allow_plain: false,
            device: String::new(),
            fleet: String::new(),
            ca: PathBuf::new(),
            cert: PathBuf::new(),
            key: PathBuf::new(),
            keep_alive_s: KEEP_ALIVE_S_DEFAULT,
            window_max: WINDOW_MAX_DEFAULT,
            window_kib: WINDOW_KIB_DEFAULT,
            time_floor_s: 0,
            reconnect: Bounds::default(),
            connect_within: super::link::CONNECT_TIMEOUT,
        }
    }
}

/// Where the broker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// TLS 1.3, or nothing.
    pub tls: bool,
    /// A DNS name or an address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{open}{}{close}:{}", self.host, self.port)
    }
}

impl BrokerConfig {
    /// Checks all fields; the fault names the first that is wrong, what was expected and what was found.
    /// Files are not read here: [`Tls::load`](super::tunnel::Tls::load) does.
    pub fn check(&self) -> Result<Endpoint, Fault> {
        let endpoint = parse_url(&self.url)?;
        if !endpoint.tls && !self.allow_plain {
            return Err(fault!(
                Refused,
                "broker url {}: mqtt:// sends everything in the clear; expected mqtts://, or allow_plain = true",
                self.url
            ));
        }
        check_name("device", &self.device)?;
        check_name("fleet", &self.fleet)?;
        check_range("keep_alive_s", self.keep_alive_s, KEEP_ALIVE_S_MIN, KEEP_ALIVE_S_MAX)?;
        check_range("window_max", self.window_max, 1, WINDOW_MAX_LIMIT)?;
        check_range("window_kib", self.window_kib, WINDOW_KIB_MIN, WINDOW_KIB_MAX)?;
        for (what, path) in [("ca", &self.ca), ("cert", &self.cert), ("key", &self.key)] {
            if endpoint.tls && path.as_os_str().is_empty() {
                return Err(fault!(Refused, "broker {what}: expected the path of a PEM file, found nothing"));
            }
        }
        Ok(endpoint)
    }

    /// What proves the broker to us, and us to it.
    pub fn credentials(&self) -> Credentials {
        Credentials {
            whose: "broker",
            ca: self.ca.clone(),
            identity: Some((self.cert.clone(), self.key.clone())),
            time_floor_s: self.time_floor_s,
        }
    }
}

fn parse_url(url: &str) -> Result<Endpoint, Fault> {
    let wrong = || fault!(Refused, "broker url: expected mqtts://host[:port], found \"{url}\"");
    match url.split_once("://") {
        Some(("mqtts", rest)) => parse_host(rest, true, 8883).ok_or_else(wrong),
        Some(("mqtt", rest)) => parse_host(rest, false, 1883).ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

/// `host[:port]`, with brackets around an IPv6 address.
pub(super) fn parse_host(rest: &str, tls: bool, default_port: u16) -> Option<Endpoint> {
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, port)
        }
        None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|p| *p != 0)?,
        None if port.is_empty() => default_port,
        None => return None,
    };
    let letters = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
    if host.is_empty() || host.len() > 253 || !host.chars().all(letters) {
        return None;
    }
    Some(Endpoint { tls, host: host.into(), port })
}

/// Names go into topics and client ids, so they hold nothing that means something there (`/ + # ~ $`).
fn check_name(what: &str, name: &str) -> Result<(), Fault> {
    let letters = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=limits::NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(letters) {
        return Ok(());
    }
    let most = limits::NAME_BYTES_MAX;
    Err(fault!(Refused, "{what}: expected 1 to {most} of A-Z a-z 0-9 . _ -, found \"{name}\""))
}

fn check_range(what: &str, value: u16, least: u16, most: u16) -> Result<(), Fault> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(fault!(Refused, "{what}: expected {least} to {most}, found {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> BrokerConfig {
        BrokerConfig {
            url: "mqtts://broker.plant".into(),
            device: "gw-1".into(),
            fleet: "plant".into(),
            ca: "ca".into(),
            cert: "cert".into(),
            key: "key".into(),
            ..BrokerConfig::default()
        }
    }

    #[test]
    fn urls_are_taken_whole_or_refused() {
        type Found = (bool, &'static str, u16);
        let cases: [(&str, Option<Found>); 16] = [
            ("mqtts://broker.plant", Some((true, "broker.plant", 8883))),
            ("mqtts://broker.plant:1", Some((true, "broker.plant", 1))),
            ("mqtt://10.0.0.1", Some((false, "10.0.0.1", 1883))),
            ("mqtts://[fe80::1]:99", Some((true, "fe80::1", 99))),
            ("mqtts://[::1]", Some((true, "::1", 8883))),
            ("", None),
            ("broker", None),
            ("tcp://broker", None),
            ("mqtts://", None),
            ("mqtts://:8883", None),
            ("mqtts://broker:0", None),
            ("mqtts://broker:65536", None),
            ("mqtts://broker:8883/path", None),
            ("mqtts://user:secret@broker", None),
            ("mqtts://[::1", None),
            ("mqtts://[::1]x", None),
        ];
        for (url, expected) in cases {
            let found = parse_url(url).ok().map(|e| (e.tls, e.host, e.port));
            assert_eq!(found, expected.map(|(t, h, p)| (t, h.to_string(), p)), "{url}");
        }
    }

    #[test]
    fn each_wrong_field_is_named() {
        type Spoil = fn(&mut BrokerConfig);
        let cases: [(&str, Spoil); 11] = [
            ("broker url", |c| c.url = "http://x".into()),
            ("allow_plain", |c| c.url = "mqtt://x".into()),
            ("device", |c| c.device = "a/b".into()),
            ("device", |c| c.device = "x".repeat(49)),
            ("fleet", |c| c.fleet = "#".into()),
            ("keep_alive_s", |c| c.keep_alive_s = 4),
            ("window_max", |c| c.window_max = 0),
            ("window_max", |c| c.window_max = 33),
            ("window_kib", |c| c.window_kib = 95),
            ("window_kib", |c| c.window_kib = 3073),
            ("broker key", |c| c.key = PathBuf::new()),
        ];
        assert!(good().check().is_ok());
        for (name, spoil) in cases {
            let mut config = good();
            spoil(&mut config);
            let fault = config.check().expect_err(name);
            assert!(fault.what.contains(name), "{fault} does not name {name}");
        }
    }

    #[test]
    fn plain_tcp_needs_no_certificates_but_has_to_be_asked_for_twice() {
        let plain = BrokerConfig {
            url: "mqtt://x".into(),
            allow_plain: true,
            device: "d".into(),
            fleet: "f".into(),
            ..BrokerConfig::default()
        };
        assert_eq!(plain.check().map(|e| e.to_string()), Ok("x:1883".into()));
    }
}
