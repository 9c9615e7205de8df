//! Connections between processes: messages arrive in their order, each after a delay; a connection can be cut, with all
//! that is under way on it, and can stand still one way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

use crate::world::World;

/// Who is connected: an agent to a gateway, or a gateway to the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// An agent and a gateway.
    Agent(usize, usize),
    /// A gateway and the journal.
    Gateway(usize),
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From who connected.
    There,
    /// To who connected.
    Back,
}

/// One connection.
pub struct Link {
    world: World,
    is_cut: AtomicBool,
    cut: Notify,
    /// The longest delay of a message, in ms.
    delay_ms: u64,
    stands_until: Mutex<[Option<Instant>; 2]>,
}

/// All connections that are open.
#[derive(Default)]
pub struct Links(Mutex<Vec<(Ends, Weak<Link>)>>);

impl Links {
    /// Opens one.
    pub fn open(&self, world: &World, ends: Ends) -> Arc<Link> {
        let delay_ms = if world.is_calm() || world.chance(0.8) { 4 } else { 80 };
        let link = Arc::new(Link {
            world: world.clone(),
            is_cut: AtomicBool::new(false),
            cut: Notify::new(),
            delay_ms,
            stands_until: Mutex::default(),
        });
        let mut links = self.0.lock().unwrap();
        links.retain(|(_, link)| link.strong_count() > 0);
        links.push((ends, Arc::downgrade(&link)));
        link
    }

    /// Those that are open, with who is at their ends.
    pub fn all(&self) -> Vec<(Ends, Arc<Link>)> {
        let links = self.0.lock().unwrap();
        let open = links.iter().filter_map(|(ends, link)| Some((*ends, link.upgrade()?)));
        open.filter(|(_, link)| !link.is_cut()).collect()
    }

    /// Cuts those of whose ends this holds.
    pub fn cut(&self, is_wanted: impl Fn(Ends) -> bool) {
        self.all().into_iter().filter(|(ends, _)| is_wanted(*ends)).for_each(|(_, link)| link.cut());
    }
}

impl Link {
    /// Cuts it.
    pub fn cut(&self) {
        self.is_cut.store(true, Ordering::Relaxed);
        self.cut.notify_waiters();
    }

    /// Whether it was cut.
    pub fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }

    /// Lets nothing through one way for a while.
    pub fn stand(&self, way: Way, time: Duration) {
        self.stands_until.lock().unwrap()[way as usize] = Some(Instant::now() + time);
    }

    /// Whether it stands still either way.
    pub fn is_standing(&self) -> bool {
        self.stands(Way::There).or(self.stands(Way::Back)).is_some()
    }

    /// Ready when it is cut.
    pub async fn gone(&self) {
        let cut = self.cut.notified();
        tokio::pin!(cut);
        cut.as_mut().enable();
        if !self.is_cut() {
            cut.await;
        }
    }

    /// The way of one message.
    async fn pass(&self, way: Way) {
        if self.world.chance(0.5) {
            self.world.pause(0..self.delay_ms).await;
        }
        while let Some(until) = self.stands(way) {
            sleep_until(until).await;
        }
    }

    /// Until when it stands still that way.
    fn stands(&self, way: Way) -> Option<Instant> {
        self.stands_until.lock().unwrap()[way as usize].filter(|until| *until > Instant::now())
    }
}

/// The far end of one way of a connection.
pub struct Far<T> {
    link: Arc<Link>,
    way: Way,
    messages: mpsc::Receiver<T>,
}

impl<T> Far<T> {
    /// The far end of what is sent into `messages`.
    pub fn new(link: &Arc<Link>, way: Way, messages: mpsc::Receiver<T>) -> Self {
        Self { link: Arc::clone(link), way, messages }
    }

    /// The next message; none once the connection is cut or the near end closed.
    pub async fn next(&mut self) -> Option<T> {
        let message = tokio::select! {
            biased;
            () = self.link.gone() => return None,
            message = self.messages.recv() => message?,
        };
        tokio::select! {
            biased;
            () = self.link.gone() => None,
            () = self.link.pass(self.way) => Some(message),
        }
    }

    /// Carries every message on, made another by `change`, into `to`.
    pub async fn carry<U>(mut self, to: mpsc::Sender<U>, mut change: impl FnMut(T) -> U) {
        while let Some(message) = self.next().await {
            let message = change(message);
            let sent = tokio::select! {
                biased;
                () = self.link.gone() => return,
                sent = to.send(message) => sent,
            };
            if sent.is_err() {
                return;
            }
        }
    }
}
