//! A plain MQTT client, to look at what a broker keeps without the code that is under test.

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnectProperties, Packet};
use rumqttc::v5::{Client, Connection, Event, MqttOptions};
use std::collections::BTreeMap;
use std::time::Duration;

pub struct Listener {
    client: Client,
    connection: Connection,
}

impl Listener {
    pub fn connect(port: u16) -> Self {
        let mut options = MqttOptions::new(format!("listener-{}", super::free_port()), "127.0.0.1", port);
        let mut properties = ConnectProperties::new();
        properties.max_packet_size = Some(1 << 20);
        options.set_connect_properties(properties);
        let (client, connection) = Client::new(options, 100);
        Listener { client, connection }
    }

    /// Listens, and waits until the broker agrees.
    pub fn subscribe(&mut self, filter: &str) {
        self.client.subscribe(filter, QoS::AtLeastOnce).expect("asked");
        while !matches!(self.connection.recv().expect("a connection"), Ok(Event::Incoming(Packet::SubAck(_))))
        {
        }
    }

    /// What is heard until nothing has been for half a second, in its order.
    pub fn hear(&mut self) -> Vec<(String, Vec<u8>)> {
        let mut heard = Vec::new();
        while let Ok(event) = self.connection.recv_timeout(Duration::from_millis(500)) {
            if let Ok(Event::Incoming(Packet::Publish(publish))) = event {
                heard.push((
                    String::from_utf8(publish.topic.to_vec()).expect("text"),
                    publish.payload.to_vec(),
                ));
            }
        }
        heard
    }

    /// Publishes a message that nobody keeps.
    pub fn say(&mut self, topic: &str, payload: &[u8]) {
        self.client.publish(topic, QoS::AtLeastOnce, false, payload.to_vec()).expect("asked");
    }

    /// Publishes retained messages, and waits until they are taken.
    pub fn retain(&mut self, messages: &[(String, Vec<u8>)]) {
        let mut taken = 0;
        for chunk in messages.chunks(50) {
            for (topic, payload) in chunk {
                self.client.publish(topic, QoS::AtLeastOnce, true, payload.clone()).expect("asked");
            }
            let until = taken + chunk.len();
            while taken < until {
                if let Ok(Event::Incoming(Packet::PubAck(_))) = self.connection.recv().expect("a connection")
                {
                    taken += 1;
                }
            }
        }
    }
}

/// What the broker keeps.
pub fn kept(port: u16, filter: &str) -> BTreeMap<String, Vec<u8>> {
    let mut listener = Listener::connect(port);
    listener.subscribe(filter);
    listener.hear().into_iter().filter(|(_, payload)| !payload.is_empty()).collect()
}
