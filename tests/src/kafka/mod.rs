//! Two real Kafka clusters on this machine that know nothing of each other: *normal*, a KRaft controller and three
//! brokers that replicate, and *failover*, one node that is both. Tests start them, break single nodes and look on.
//!
//! A node is named after its cluster and its id: `normal-1`, `normal-2`, `normal-3`, `normal-100` (the controller),
//! `failover-201`. Each is a JVM that dies with this process, has a folder of its own and keeps its ports as long as
//! [`Clusters`] lives, whether it runs or not.

mod software;
mod node;
mod metadata;
pub mod replies;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::poll;
use node::{Node, Plan};
use replies::Holds;
use software::Software;

/// How long nodes may take to answer: five JVMs start at once in 10 to 25 s, longer beside a build.
const START: Duration = Duration::from_secs(180);

const NORMAL: &str = "normal";
const FAILOVER: &str = "failover";
/// The nodes in the order in which they start. Broker ids are the ones that metadata shows.
const PLANS: [Plan; 5] = [
    Plan { cluster: NORMAL, id: 100, roles: "controller" },
    Plan { cluster: NORMAL, id: 1, roles: "broker" },
    Plan { cluster: NORMAL, id: 2, roles: "broker" },
    Plan { cluster: NORMAL, id: 3, roles: "broker" },
    Plan { cluster: FAILOVER, id: 201, roles: "broker,controller" },
];

/// Both clusters; they end when this is dropped.
pub struct Clusters {
    software: Software,
    nodes: Vec<Node>,
}

impl Clusters {
    /// Starts both in `dir` and waits until every broker answers and knows its whole cluster. What an earlier start
    /// left in `dir` is taken over.
    pub fn start(dir: &Path) -> Result<Self> {
        Self::start_with(Software::find()?, dir, None)
    }

    /// The same with a proxy before each broker, for [`Clusters::proxied_bootstrap`], that holds what `holds` says.
    pub fn start_behind(holds: &Holds, dir: &Path) -> Result<Self> {
        Self::start_with(Software::find()?, dir, Some(holds))
    }

    /// The same with nodes that have memory enough for delays to be measured.
    pub fn start_steady(dir: &Path) -> Result<Self> {
        Self::start_with(Software::find()?.steady(), dir, None)
    }

    fn start_with(software: Software, dir: &Path, holds: Option<&Holds>) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let dir = fs::canonicalize(dir)?;
        let nodes: Result<_> = PLANS.into_iter().map(|plan| Node::new(plan, &dir)).collect();
        let mut clusters = Self { software, nodes: nodes? };
        for (node, holds) in clusters.nodes.iter_mut().zip(std::iter::repeat(holds)) {
            holds.map(|holds| node.stand_behind(holds)).transpose()?;
        }
        clusters.format()?;
        for node in &mut clusters.nodes {
            node.start(&clusters.software)?;
        }
        clusters.nodes.iter_mut().try_for_each(|node| node.wait_answer(START))?;
        clusters.wait_whole()?;
        Ok(clusters)
    }

    /// The normal cluster's `bootstrap.servers`.
    pub fn normal_bootstrap(&self) -> String {
        self.bootstrap(NORMAL)
    }

    /// The normal cluster's `bootstrap.servers`, through the proxies.
    pub fn proxied_bootstrap(&self) -> String {
        let proxies = self.brokers_of(NORMAL).filter_map(Node::proxy_address);
        proxies.map(|address| address.to_string()).collect::<Vec<_>>().join(",")
    }

    /// The failover cluster's `bootstrap.servers`.
    pub fn failover_bootstrap(&self) -> String {
        self.bootstrap(FAILOVER)
    }

    /// The names of all nodes, the controller's included.
    pub fn node_names(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.name.clone()).collect()
    }

    /// The process ids of the brokers of the normal cluster that run.
    pub fn normal_pids(&self) -> Vec<u32> {
        self.brokers_of(NORMAL).filter_map(|node| Some(node.pid().ok()? as u32)).collect()
    }

    /// The ids of the brokers that live, as this broker sees it. Fails if it does not answer.
    pub fn brokers_seen_by(&self, node: &str) -> Result<BTreeSet<i32>> {
        let node = self.node(node)?;
        metadata::brokers(node.broker_address().with_context(|| format!("{} is no broker", node.name))?)
    }

    /// Ends a node at once (SIGKILL). The others notice after `broker.session.timeout.ms`, 6 s.
    pub fn kill(&mut self, node: &str) -> Result<()> {
        self.node_mut(node)?.kill()
    }

    /// Asks a node to end (SIGTERM) and waits until it has. A broker hands its leaderships over first, for which it
    /// needs its controller.
    pub fn stop_cleanly(&mut self, node: &str) -> Result<()> {
        self.node_mut(node)?.stop_cleanly()
    }

    /// Freezes a node (SIGSTOP): its connections stay open and nothing answers.
    pub fn pause(&self, node: &str) -> Result<()> {
        self.node(node)?.pause()
    }

    /// Lets a frozen node go on (SIGCONT).
    pub fn resume(&self, node: &str) -> Result<()> {
        self.node(node)?.resume()
    }

    /// Starts a node again, on its ports and with its data, after ending it cleanly if it runs; waits until it
    /// answers. After a kill this takes until the dead one's session has ended.
    pub fn restart(&mut self, node: &str) -> Result<()> {
        let software = self.software.clone();
        let node = self.node_mut(node)?;
        if node.runs() {
            node.stop_cleanly()?;
        }
        node.start(&software)?;
        node.wait_answer(START)
    }

    /// All at the same time: most of it is the start of a JVM.
    fn format(&mut self) -> Result<()> {
        let voters: Vec<(&str, String)> = self.nodes.iter().filter_map(Node::voter).collect();
        for node in &self.nodes {
            let voter = voters.iter().find(|(cluster, _)| *cluster == node.plan.cluster);
            node.configure(&voter.context("a cluster without a controller")?.1)?;
        }
        for node in &mut self.nodes {
            node.start_format(&self.software)?;
        }
        self.nodes.iter_mut().try_for_each(|node| node.wait_format(START))
    }

    fn wait_whole(&self) -> Result<()> {
        for node in self.nodes.iter().filter(|node| node.broker_address().is_some()) {
            let of_cluster = self.brokers_of(node.plan.cluster);
            let expected: BTreeSet<i32> = of_cluster.map(|node| node.plan.id).collect();
            node.with_log(poll::until(&format!("{} knows its cluster", node.name), START, || {
                let seen = self.brokers_seen_by(&node.name)?;
                ensure!(seen == expected, "it sees the brokers {seen:?}");
                Ok(Some(()))
            }))?;
        }
        Ok(())
    }

    fn bootstrap(&self, cluster: &str) -> String {
        let addresses = self.brokers_of(cluster).filter_map(Node::broker_address);
        addresses.map(|address| address.to_string()).collect::<Vec<_>>().join(",")
    }

    fn brokers_of(&self, cluster: &str) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.plan.cluster == cluster && node.broker_address().is_some())
    }

    fn node(&self, name: &str) -> Result<&Node> {
        let found = self.nodes.iter().find(|node| node.name == name);
        found.with_context(|| format!("no node {name:?}; there are {:?}", self.node_names()))
    }

    fn node_mut(&mut self, name: &str) -> Result<&mut Node> {
        let names = self.node_names();
        let found = self.nodes.iter_mut().find(|node| node.name == name);
        found.with_context(|| format!("no node {name:?}; there are {names:?}"))
    }
}

impl Drop for Clusters {
    fn drop(&mut self) {
        // Signalled all together, then reaped: their ends overlap.
        for node in &mut self.nodes {
            node.signal_kill();
        }
        for node in &mut self.nodes {
            node.reap();
        }
    }
}
