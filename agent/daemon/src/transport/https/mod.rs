//! The same objects from a web server: static files, HTTP/1.1 GET, nothing that a server has to be programmed for.
//!
//! ```text
//! URL/c/SHA256    an object: table or page
//! URL/m/SHA256    a manifest; gateways get theirs over MQTT, a person may want it
//! URL/r/SHA256    all pieces of the route whose table has this digest, in a row, without anything between them
//! ```
//! `mainstayctl export` writes that folder. Neighbouring pieces come with one GET of a range of their route.
//!
//! The server is trusted with nothing, as the broker: every object is proven by who asked for it. Redirects are not followed: a
//! server that answers with one is refused by name.
//!
//! * [`answer`] heads and bodies; no I/O
//! * [`connection`] one connection: dials, asks, reads, and waits for nothing without an end
//! * [`source`] what is asked for, in which groups, and what becomes of what comes

pub mod answer;
mod connection;
pub mod source;

use super::backoff::Bounds;
use super::config::{Endpoint, parse_host};
use super::tunnel::{self, Credentials, Tls};
use connection::Target;
use mainstay_core::{fault, fault::Fault};
use std::fmt::{self, Display};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Where the second source is.
#[derive(Clone, Debug, Default)]
pub struct HttpsConfig {
    /// `https://host[:443]/path/`, or `http://` together with [`allow_plain`](Self::allow_plain).
    pub url: String,
    /// Says that `http://` is meant: everybody on the way sees what is fetched. That it is genuine is proven all the same.
    pub allow_plain: bool,
    /// PEM file with the certificates that the server's must lead to.
    pub ca: PathBuf,
    /// PEM files with our client certificate and its key, where the server wants one.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// See [`BrokerConfig::time_floor_s`](super::BrokerConfig::time_floor_s).
    pub time_floor_s: u64,
    /// The most that is asked for at once, in KiB.
    pub window_kib: u16,
    /// Waits between attempts to reach it.
    pub reconnect: Bounds,
}

impl HttpsConfig {
    /// Checks all fields; files are not read here.
    pub fn check(&self) -> Result<(Endpoint, String), Fault> {
        let (endpoint, path) = parse_url(&self.url).ok_or_else(|| {
            fault!(Refused, "https url: expected https://host[:port]/path/, found \"{}\"", self.url)
        })?;
        if !endpoint.tls && !self.allow_plain {
            return Err(fault!(
                Refused,
                "https url {}: http:// sends everything in the clear; expected https://, or allow_plain = true",
                self.url
            ));
        }
        if endpoint.tls && self.ca.as_os_str().is_empty() {
            return Err(fault!(Refused, "https ca: expected the path of a PEM file, found nothing"));
        }
        Ok((endpoint, path))
    }
}

fn parse_url(url: &str) -> Option<(Endpoint, String)> {
    let (tls, rest) = match url.split_once("://")? {
        ("https", rest) => (true, rest),
        ("http", rest) => (false, rest),
        _ => return None,
    };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let endpoint = parse_host(host, tls, if tls { 443 } else { 80 })?;
    let letters = |c: char| c.is_ascii_alphanumeric() || "/._~-%+,=@:".contains(c);
    if path.len() > PATH_BYTES_MAX || !path.chars().all(letters) {
        return None;
    }
    let path = path.trim_end_matches('/');
    Some((endpoint, format!("{path}/")))
}

/// The path of a URL, before our own names.
const PATH_BYTES_MAX: usize = 256;

/// A web server: where it is, and what proves it.
#[derive(Clone)]
pub struct Depot {
    endpoint: Endpoint,
    /// Begins and ends with a slash.
    path: String,
    tls: Option<Arc<Tls>>,
    window_bytes: u64,
    reconnect: Bounds,
}

impl Depot {
    /// Checks the configuration and reads the certificates; dials nothing.
    pub fn new(config: &HttpsConfig) -> Result<Depot, Fault> {
        let (endpoint, path) = config.check()?;
        let credentials = Credentials {
            whose: "https",
            ca: config.ca.clone(),
            identity: config.identity.clone(),
            time_floor_s: config.time_floor_s,
        };
        let tls = if endpoint.tls { Some(Tls::load(&credentials)?) } else { None };
        let window_bytes = u64::from(config.window_kib) * 1024;
        Ok(Depot { endpoint, path, tls, window_bytes, reconnect: config.reconnect })
    }

    /// The broker's words for what can happen to a connection, for a web server.
    fn words(&self, of_broker: String) -> String {
        of_broker.replace("broker", "web server")
    }

    fn explain(&self, error: &io::Error) -> String {
        self.words(match &self.tls {
            Some(tls) => tunnel::of(error, tls, &self.endpoint),
            None => tunnel::of_io(error, &self.endpoint),
        })
    }

    fn says(&self, fault: Fault) -> Fault {
        fault.within(format_args!("{self}"))
    }
}

impl Display for Depot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "web server {}", self.endpoint)
    }
}

/// The file of a target, under the path.
fn name(target: Target) -> String {
    match target {
        Target::Object(name) => format!("c/{name}"),
        Target::Range(route, ..) | Target::Whole(route) => format!("r/{route}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_whole_or_refused() {
        #[rustfmt::skip]
        let cases = [
            ("https://depot.plant/mainstay/", Some(("depot.plant", 443, true, "/mainstay/"))),
            ("https://depot.plant/mainstay",  Some(("depot.plant", 443, true, "/mainstay/"))),
            ("https://depot.plant",           Some(("depot.plant", 443, true, "/"))),
            ("https://[::1]:8443/a/b",        Some(("::1", 8443, true, "/a/b/"))),
            ("http://10.0.0.1:81/",           Some(("10.0.0.1", 81, false, "/"))),
            ("https://",                      None),
            ("https:///x",                    None),
            ("mqtts://depot",                 None),
            ("https://user:secret@depot/",    None),
            ("https://depot/a b",             None),
            ("https://depot/a\r\nHost: x",    None),
            ("https://depot/?query",          None),
        ];
        for (url, expected) in cases {
            let found = parse_url(url).map(|(e, path)| (e.host, e.port, e.tls, path));
            assert_eq!(found, expected.map(|(h, p, t, path)| (h.into(), p, t, path.into())), "{url}");
        }
    }

    #[test]
    fn plain_http_has_to_be_asked_for_and_tls_needs_a_ca() {
        let mut config = HttpsConfig { url: "http://depot/".into(), ..HttpsConfig::default() };
        assert!(config.check().is_err_and(|f| f.what.contains("allow_plain")));
        config.allow_plain = true;
        assert!(config.check().is_ok());
        config.url = "https://depot/".into();
        assert!(config.check().is_err_and(|f| f.what.contains("https ca")));
    }
}
