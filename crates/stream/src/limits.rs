//! Every limit's default, each with its reason. What is full refuses; nothing grows without a bound stated here.

use std::time::Duration;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Longest record. Kafka's default message limit; a longer line is cut into marked pieces by the agent.
pub const RECORD_BYTES_MAX: usize = MIB;
/// Bodies of one batch: one journal write, small enough that a re-send is cheap.
pub const BATCH_BYTES_MAX: usize = MIB;
/// Records of one batch: bounds the work of a refusal and of a split.
pub const BATCH_RECORDS_MAX: usize = 1_000;
/// One message on the wire: a batch of bodies at their limit plus its columns.
pub const MESSAGE_BYTES_MAX: usize = 4 * MIB;
/// Bytes queued for one stream in a gateway: 8 batches at their limit hide one slow commit.
pub const QUEUE_BYTES_MAX: usize = 8 * MIB;
/// Bytes of all queues of a gateway together.
pub const GATEWAY_BYTES_MAX: usize = 512 * MIB;
/// What each stream may always queue, whatever the others hold.
pub const QUEUE_BYTES_FLOOR: usize = 2 * MIB;
/// Producers that one queue may hold (K of N).
pub const PRODUCERS_PER_QUEUE: usize = 2;
/// Producers of a gateway (N), each a writer with its own outstanding bytes.
pub const PRODUCERS: usize = 8;
/// How long a batch waits for others to go to a Kafka broker with, where many come (decision 0008).
pub const PRODUCER_LINGER_MAX: Duration = Duration::from_millis(16);
/// What one producer may have outstanding: about 30 ms of a fast disk.
pub const PRODUCER_OUTSTANDING_BYTES_MAX: usize = 4 * MIB;
/// How long producers and queues stay bound.
pub const SLICE: Duration = Duration::from_secs(600);
/// How far ahead of a gateway's clock the time may lie that a client states of an event: a clock that is wrong by more
/// would carry the watermark of everybody's partitions into the future. The event is taken all the same.
pub const EVENT_TIME_AHEAD_MAX: Duration = Duration::from_secs(3600);
/// How long a gateway tries a batch before it refuses it whole.
pub const BATCH_DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of one topic in one group commit: a flooding topic lengthens another's commit by this much at most.
pub const COMMIT_QUANTUM_BYTES: usize = MIB;
/// A topic with more than this waiting for a group commit is a heavy one, after whose turn the others have a commit without
/// it: a commit of a megabyte takes some 5 ms, one of the others alone half of one.
pub const COMMIT_LIGHT_BYTES: usize = 128 * 1024;
/// Bytes that wait for a group commit, per topic.
pub const TOPIC_PENDING_BYTES_MAX: usize = 16 * MIB;
/// How often a leg commits; `up` sets [`CHECKPOINT_UP`].
pub const CHECKPOINT: Duration = Duration::from_secs(10);
/// How often a leg commits on one machine, where a person is watching.
pub const CHECKPOINT_UP: Duration = Duration::from_secs(2);
/// Memory of one leg's range sets; beyond it the partitions ahead pause, nothing is forgotten.
pub const RANGE_SET_BYTES_MAX: usize = 64 * MIB;
/// Gaps in one leg's range sets; beyond it the partitions ahead pause. A stream ordered by key has its sources scattered
/// over its partitions: this keeps what each of its commits and reports carries to some 2 MB, beside gaps that nothing
/// will ever fill because retention overtook the leg.
pub const RANGE_SET_GAPS_MAX: usize = 50_000;
/// How long after its last append a finished source is still remembered by a leg, beside the journal having removed it:
/// as long as a sender may reasonably try again.
pub const FORGET_MARGIN: Duration = Duration::from_secs(3600);
/// Unacknowledged bytes of one agent worker.
pub const WORKER_OUTSTANDING_BYTES_MAX: usize = 4 * MIB;
/// How long an idempotency key is remembered by a gateway.
pub const IDEMPOTENCY_WINDOW: Duration = Duration::from_secs(3600);
/// Bytes of remembered idempotency keys per stream.
pub const IDEMPOTENCY_BYTES_MAX: usize = 64 * MIB;
/// Streams of one installation: the mission's 4,000, and room.
pub const STREAMS_MAX: usize = 10_000;
/// Partitions of a topic: more would let one stream grow everybody's tables without end.
pub const PARTITIONS_MAX: u32 = 64;
/// Throughput for which a topic gets one more partition: a fifth of what one leg was seen to read of one, so that a
/// backlog is gone in a quarter of the time that it took to come.
pub const PARTITION_BYTES_PER_SECOND: u64 = 8 * MIB as u64;
/// Retention of a topic by time.
pub const RETENTION: Duration = Duration::from_secs(24 * 3600);
/// Retention of a topic by size.
pub const RETENTION_BYTES: u64 = 10 * 1024 * MIB as u64;
/// First wait of a retry.
pub const RETRY_BASE: Duration = Duration::from_millis(50);
/// Longest wait of a retry.
pub const RETRY_CAP: Duration = Duration::from_secs(5);
