//! Senders without an agent: requests with and without an idempotency key, tried at any gateway until one says that they
//! are durable. HTTP itself is not simulated: they hold what its door holds.

use std::sync::Arc;
use std::time::Duration;

use gateway::access::Shown;
use gateway::admit::{Gatherer, cost};
use gateway::dispatch::Load;
use gateway::key::{Key, birth_minutes};
use stream::StreamId;
use stream::clock::Clock;
use stream::wire::{Refusal, RefusalReason};
use tokio::time::timeout;

use crate::agent::Life;
use crate::gateway::GatewayHost;
use crate::oracle::{Ledger, Posted};
use crate::world::World;

/// How long a client waits for an answer: often longer than the gateway takes, not always.
const ANSWER_MS: std::ops::Range<u64> = 500..6_000;

/// A client of one stream.
pub struct Client {
    /// The world.
    pub world: World,
    /// Its number, within its records.
    pub number: usize,
    /// The stream.
    pub stream: StreamId,
    /// Where it sends.
    pub gateways: Vec<Arc<GatewayHost>>,
    /// Where it notes what was acknowledged.
    pub ledger: Arc<Ledger>,
}

/// A request that is tried until it is durable.
struct Post {
    lines: Vec<String>,
    key: Option<(Key, u32)>,
}

/// How a try ended.
enum Tried {
    Durable(Life),
    /// It may be durable or not.
    Unclear,
    Refused(Refusal),
}

impl Client {
    /// Sends until nothing breaks any more, and what is under way then to its end.
    pub async fn run(self) {
        let mut requests = 0;
        while !self.world.is_calm() {
            self.world.pause(if self.world.chance(0.3) { 0..10 } else { 100..2_000 }).await;
            self.send(&self.post(requests)).await;
            requests += 1;
        }
    }

    fn post(&self, request: u64) -> Post {
        let line = |i| format!("k{},h{}-{request}-{i}", self.world.pick(0..4), self.number);
        let lines = (0..self.world.pick(1..4)).map(line).collect();
        let key = self.world.chance(0.5).then(|| {
            let key = Key::parse(format!("h{}-{request}", self.number).as_bytes()).expect("a plain key");
            let made = (self.world.now_ms() / 1000).to_string();
            (key, birth_minutes(Some(made.as_bytes()), self.world.now_ms()).expect("made now"))
        });
        Post { lines, key }
    }

    /// Tries until it is durable, or a key was once taken for a life that is over.
    async fn send(&self, post: &Post) {
        let (mut tries, mut is_clear) = (0, true);
        loop {
            tries += 1;
            match self.attempt(post).await {
                Tried::Durable(life) => {
                    let is_keyed = post.key.is_some();
                    let lines = post.lines.clone();
                    self.ledger.posted(Posted { life, lines, is_keyed, is_clear });
                    return;
                }
                Tried::Unclear => is_clear = false,
                Tried::Refused(refusal) if refusal.reason.for_good() => return,
                Tried::Refused(refusal) if refusal.reason == RefusalReason::UnknownStream && tries > 20 => return,
                // Refused at the door it is nowhere; refused later it may be stored all the same.
                Tried::Refused(refusal) => {
                    is_clear &= matches!(refusal.reason, RefusalReason::QueueFull | RefusalReason::RateLimited);
                }
            }
            self.world.pause(50..1_500).await;
        }
    }

    async fn attempt(&self, post: &Post) -> Tried {
        let gateway = self.world.one_of(&self.gateways).expect("there are gateways");
        let Some(handle) = gateway.handle() else { return Tried::Unclear };
        let shown = Shown { secret: None, certified: None };
        let submit = async {
            let caller = handle.caller(shown)?;
            let stream = handle.stream(&caller, self.stream.as_str())?;
            let mut records = Gatherer::new(&stream.config, self.world.now_ms());
            let mut end = 0;
            for line in &post.lines {
                end += line.len() as u64 + 1;
                records.push(end, None, line.as_bytes())?;
            }
            let gathered = records.finish()?;
            let (bytes, count) = (gathered.body_bytes(), gathered.len());
            let permit = handle.budget.reserve(stream.queue, cost(bytes, count))?;
            let load = match &post.key {
                None => Load::Gathered(gathered),
                // A key has one body here.
                Some((key, birth_minutes)) => {
                    Load::Keyed { key: key.clone(), birth_minutes: *birth_minutes, body_hash: [0; 32], gathered }
                }
            };
            let life = (self.stream.clone(), stream.config.incarnation);
            Ok::<_, Refusal>((life, handle.submit(stream.queue, load, count, permit).await))
        };
        let (life, outcome) = match submit.await {
            Ok(submitted) => submitted,
            Err(refusal) => return Tried::Refused(refusal),
        };
        // A request under way does not keep a gateway that drains.
        drop(handle);
        let within = if self.world.is_calm() { Duration::from_secs(20) } else { self.world.ms(ANSWER_MS) };
        match timeout(within, outcome).await {
            Ok(Ok(Ok(_))) => {
                self.world.note(format!("{}: {:?} are durable", self.stream, post.lines));
                Tried::Durable(life)
            }
            Ok(Ok(Err(refusal))) => Tried::Refused(refusal),
            Ok(Err(_)) | Err(_) => Tried::Unclear,
        }
    }
}
