//! QMP, QEMU's machine protocol: one JSON object a line, commands with answers, and events in between
//! (docs/interop/qmp-spec.rst). Events go to the [`Log`], answers to who asked.

use super::log::{Log, Seen};
use crate::{Doing, Result, Trouble};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// The longest that a command may take: `savevm` writes all memory, on a busy disk.
const ANSWER: Duration = Duration::from_secs(120);

/// The connection to one QEMU.
pub struct Qmp {
    stream: UnixStream,
    answers: Receiver<Value>,
}

impl Qmp {
    /// Takes QEMU's greeting and leaves the negotiation mode.
    pub fn new(stream: UnixStream, log: Log) -> Result<Qmp> {
        let reading = stream.try_clone().doing(|| "QMP")?;
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(reading).lines().map_while(std::result::Result::ok) {
                let Ok(mut message) = serde_json::from_str::<Value>(&line) else { continue };
                if let Some(event) = message["event"].as_str().map(str::to_owned) {
                    log.push(Seen::Qmp { event, data: message["data"].take() });
                } else if message.get("QMP").is_none() && sender.send(message).is_err() {
                    return; // nobody asks any more
                }
            }
        });
        let mut qmp = Qmp { stream, answers };
        qmp.command("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs one command; its `return`.
    pub fn command(&mut self, name: &str, arguments: Value) -> Result<Value> {
        let line = format!("{}\n", json!({ "execute": name, "arguments": arguments }));
        self.stream.write_all(line.as_bytes()).doing(|| format!("QMP {name}"))?;
        let answer = self.answers.recv_timeout(ANSWER).doing(|| format!("QMP {name}: no answer"))?;
        match answer.get("return") {
            Some(value) => Ok(value.clone()),
            None => Err(Trouble::new(format!("QMP {name}: {}", answer["error"]["desc"]))),
        }
    }
}
