//! One MQTT 5 connection to a broker. It waits for what it said to be taken, says why where it is not, and begins
//! again where the link broke. The broker is not trusted with anything: what goes over it is signed or named by
//! its digest.

mod session;
mod tunnel;

pub use session::{Message, Session};

use crate::fail;
use crate::fail::Result;
use std::fmt;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// How to reach a broker, and who we are to it.
#[derive(Clone, Debug)]
pub struct Broker {
    /// Where it is.
    pub endpoint: Endpoint,
    /// PEM: whose certificates are believed; needed for `mqtts://`.
    pub ca: Option<PathBuf>,
    /// PEM: our certificate and its secret key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// User name and password.
    pub login: Option<(String, Zeroizing<String>)>,
    /// The client id; made up where there is none.
    pub client_id: Option<String>,
    /// Messages in flight.
    pub window: u16,
    /// It has to keep retained messages.
    pub keeps: bool,
}

impl Broker {
    /// A broker at `url`, with nothing but that.
    pub fn at(url: &str) -> Result<Self> {
        let endpoint = Endpoint::parse(url)?;
        Ok(Broker {
            endpoint,
            ca: None,
            identity: None,
            login: None,
            client_id: None,
            window: WINDOW_DEFAULT,
            keeps: true,
        })
    }
}

/// Objects in flight: 16 × 96 KiB in memory, and under the 20 that Mosquitto takes at a time.
pub const WINDOW_DEFAULT: u16 = 16;

/// Where a broker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// TLS 1.3?
    pub tls: bool,
    /// A DNS name or an address, without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl Endpoint {
    /// Reads `mqtt://host[:1883]` or `mqtts://host[:8883]`.
    pub fn parse(url: &str) -> Result<Self> {
        let wrong = || {
            fail!("broker: expected mqtts://host[:8883] or mqtt://host[:1883], found {url:?}")
                .todo("a user name and a password go into --username and --password-file")
        };
        let (tls, rest) = match url.split_once("://") {
            Some(("mqtts", rest)) => (true, rest),
            Some(("mqtt", rest)) => (false, rest),
            _ => return Err(wrong()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => rest.split_once(']').ok_or_else(wrong)?,
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().ok().filter(|p| *p != 0).ok_or_else(wrong)?,
            None if port.is_empty() && tls => 8883,
            None if port.is_empty() => 1883,
            None => return Err(wrong()),
        };
        let letters = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
        if host.is_empty() || !host.chars().all(letters) {
            return Err(wrong());
        }
        Ok(Endpoint { tls, host: host.into(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Endpoint;

    #[test]
    fn urls_are_taken_whole_or_refused() {
        #[rustfmt::skip]
        let cases = [
            ("mqtt://broker",             Some("mqtt://broker:1883")),
            ("mqtts://broker.plant",      Some("mqtts://broker.plant:8883")),
            ("mqtts://broker:1/",         Some("mqtts://broker:1")),
            ("mqtt://10.0.0.1:1884",      Some("mqtt://10.0.0.1:1884")),
            ("mqtts://[fe80::1]:99",      Some("mqtts://[fe80::1]:99")),
            ("mqtt://[::1]",              Some("mqtt://[::1]:1883")),
            ("broker",                    None),
            ("tcp://broker",              None),
            ("mqtt://",                   None),
            ("mqtt://broker:0",           None),
            ("mqtt://broker:65536",       None),
            ("mqtt://user:word@broker",   None),
            ("mqtt://broker/path",        None),
            ("mqtt://[::1",               None),
        ];
        for (url, expected) in cases {
            let found = Endpoint::parse(url).ok().map(|e| e.to_string());
            assert_eq!(found.as_deref(), expected, "{url}");
        }
    }
}
