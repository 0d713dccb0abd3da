//! How a broker is named on the command line.

use super::warn;
use crate::broker::{Broker, WINDOW_DEFAULT};
use crate::fail;
use crate::fail::Result;
use crate::files::read_small;
use clap::{Args, value_parser};
use std::path::PathBuf;
use zeroize::Zeroizing;

#[derive(Debug, Args)]
pub(super) struct BrokerArgs {
    /// mqtts://host[:8883], or mqtt://host[:1883] in the clear
    #[arg(long, value_name = "URL")]
    broker: String,
    /// PEM file with the authority that the broker's certificate must lead to; no other is believed
    #[arg(long, value_name = "CA.pem")]
    ca: Option<PathBuf>,
    /// PEM file with our certificate
    #[arg(long, value_name = "CERT.pem", requires = "key")]
    cert: Option<PathBuf>,
    /// PEM file with its secret key
    #[arg(long, value_name = "KEY.pem", requires = "cert")]
    key: Option<PathBuf>,
    /// User name, where the broker wants one
    #[arg(long, requires = "password_file")]
    username: Option<String>,
    /// File whose first line is the password
    #[arg(long, value_name = "FILE", requires = "username")]
    password_file: Option<PathBuf>,
    /// MQTT client id [default: mainstayctl- and random digits]
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,
    /// Messages in flight
    #[arg(long, value_name = "N", default_value_t = WINDOW_DEFAULT, value_parser = value_parser!(u16).range(1..=256))]
    window: u16,
}

impl BrokerArgs {
    pub(super) fn broker(&self) -> Result<Broker> {
        let mut broker = Broker::at(&self.broker)?;
        if !broker.endpoint.tls {
            warn(format_args!("note: {} is not encrypted, and does not prove who it is", broker.endpoint));
        }
        broker.ca.clone_from(&self.ca);
        broker.identity = self.cert.clone().zip(self.key.clone());
        if let (Some(name), Some(file)) = (&self.username, &self.password_file) {
            let bytes = Zeroizing::new(read_small(file, 1024)?);
            let text = str::from_utf8(&bytes);
            let text = text.map_err(|_| fail!("{}: expected a password, found no text", file.display()))?;
            let password = text.lines().next().unwrap_or_default().to_owned();
            broker.login = Some((name.clone(), Zeroizing::new(password)));
        }
        broker.client_id.clone_from(&self.client_id);
        broker.window = self.window;
        Ok(broker)
    }
}
