//! What the two roles of this crate are told at their start. The supervisor hands a worker its settings as one JSON
//! argument, appended to the worker command, so that both sides share one type and no flag can be forgotten.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stream::{Incarnation, StreamId};

use crate::send::connect::Gateway;

/// What the supervisor is told.
#[derive(Clone, Debug)]
pub struct AgentSettings {
    /// The agent's id. None: the one kept in `state_dir`, or a new random one.
    pub agent_id: Option<String>,
    /// Where the agent keeps its id and, in a folder per stream, what its workers must remember.
    pub state_dir: PathBuf,
    /// The gateway, and what is shown to it.
    pub gateway: Gateway,
    /// Admin's address, e.g. `http://127.0.0.1:7700`.
    pub admin: String,
    /// Program and arguments that start a worker; [`WorkerSettings`] as JSON are appended as the last argument.
    pub worker_command: Vec<String>,
    /// How often and how long things are done.
    pub pace: Pace,
}

/// What one worker is told. Its text form is JSON (`Display` and `FromStr`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerSettings {
    /// The stream it collects for.
    pub stream: StreamId,
    /// The stream's life.
    pub incarnation: Incarnation,
    /// The agent it belongs to; part of every source's identity.
    pub agent_id: String,
    /// The folder of this stream's life alone: positions, quarantine, last good copy of the configuration.
    pub state_dir: PathBuf,
    /// The gateway, and what is shown to it.
    pub gateway: Gateway,
    /// Admin's address.
    pub admin: String,
    /// The process that started it, which holds a duplicate of its descriptors over the socket that is the worker's
    /// standard input, and whose end the worker does not survive. None: nobody does.
    pub supervisor: Option<u32>,
    /// How often and how long things are done.
    pub pace: Pace,
}

impl WorkerSettings {
    /// Where the worker's last good copy of the configuration lies.
    pub fn config_copy(&self) -> PathBuf {
        self.state_dir.join("config.json")
    }
}

impl std::fmt::Display for WorkerSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| std::fmt::Error)?)
    }
}

impl FromStr for WorkerSettings {
    type Err = serde_json::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(text)
    }
}

/// How often and how long things are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// Between two looks at the length of a file that grows.
    pub poll_min: Duration,
    /// Between two looks at the lengths of files that do not.
    pub poll_max: Duration,
    /// Between two looks for new files.
    pub discover: Duration,
    /// How long a file that left its watched path must stay unchanged before it is taken for finished.
    pub finish_after: Duration,
    /// Between two writes of positions. What a crash loses of them is sent again and removed as doubles.
    pub positions: Duration,
    /// Between two reports of facts.
    pub facts: Duration,
    /// Between two renewals of the agent's lease; a lease held by another machine is waited for four times as long.
    pub lease: Duration,
    /// How long an unknown stream is tried again before the worker gives up: at creation the gateway may learn of the
    /// stream later than the agent.
    pub unknown_stream: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            poll_min: Duration::from_millis(50),
            poll_max: Duration::from_millis(250),
            discover: Duration::from_secs(1),
            finish_after: Duration::from_secs(10),
            positions: Duration::from_millis(200),
            facts: Duration::from_secs(1),
            lease: Duration::from_secs(10),
            unknown_stream: Duration::from_secs(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worker_settings_survive_being_an_argument() {
        let settings = WorkerSettings {
            stream: "a.b.c".parse().unwrap(),
            incarnation: Incarnation(7),
            agent_id: "0123456789abcdef".into(),
            state_dir: "/var/lib/x y".into(),
            gateway: Gateway::at("http://127.0.0.1:7702"),
            admin: "http://127.0.0.1:7700".into(),
            supervisor: Some(1),
            pace: Pace::default(),
        };
        assert_eq!(settings.to_string().parse::<WorkerSettings>().unwrap(), settings);
        assert!("{}".parse::<WorkerSettings>().is_err());
    }
}
