//! Makes topics and keeps them as they are wanted: partitions, replication, settings.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest,
};
use kafka_protocol::protocol::StrBytes;
use tracing::info;

use crate::cluster::{ANSWER, Cluster, Topic, name};
use crate::error::KafkaError;

/// How the protocol calls a topic among the things that have settings.
const TOPIC: i8 = 2;
/// Topics of one request: thousands at once would take longer than anybody waits.
const TOPICS_AT_ONCE: usize = 200;
/// How the protocol calls "set this value".
const SET: i8 = 0;

/// What a topic should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub topic: String,
    /// Partitions: at least as many.
    pub partitions: i32,
    /// Copies of each when it is made; they are not changed here later.
    pub replication: i16,
    /// Settings by name, beside `min.insync.replicas`: that one follows from the copies that the topic has.
    pub settings: BTreeMap<&'static str, String>,
}

/// In-sync copies without which nothing is acknowledged: all but one of three, so that one broker may be away. It follows
/// from the copies that a topic has, never from the brokers that are there at the moment.
fn in_sync(replication: usize) -> String {
    if replication >= 3 { "2" } else { "1" }.to_owned()
}

impl Wanted {
    fn settings(&self, replication: usize) -> BTreeMap<&'static str, String> {
        let mut settings = self.settings.clone();
        settings.insert("min.insync.replicas", in_sync(replication));
        settings
    }
}

/// Makes topics what they should be. What cannot be had does not keep the others from being made; the first error is
/// answered.
pub async fn ensure(cluster: &Cluster, wanted: &[Wanted]) -> Result<(), KafkaError> {
    let names: Vec<String> = wanted.iter().map(|wanted| wanted.topic.clone()).collect();
    cluster.refresh(&names).await?;
    let mut outcome = Ok(());
    let mut note = |done: Result<(), KafkaError>| {
        if outcome.is_ok() {
            outcome = done;
        }
    };
    let (known, missing): (Vec<_>, Vec<_>) = wanted
        .iter()
        .map(|wanted| (wanted, cluster.known_topic(&wanted.topic)))
        .partition(|(_, known)| known.is_some());
    for some in missing.chunks(TOPICS_AT_ONCE) {
        let some: Vec<&Wanted> = some.iter().map(|(wanted, _)| *wanted).collect();
        note(create(cluster, &some).await);
    }
    let known: Vec<(&Wanted, Arc<Topic>)> =
        known.into_iter().filter_map(|(wanted, known)| Some((wanted, known?))).collect();
    for (wanted, _) in known.iter().filter(|(wanted, known)| (known.leaders.len() as i32) < wanted.partitions) {
        note(grow(cluster, wanted).await);
    }
    for some in known.chunks(TOPICS_AT_ONCE) {
        note(reconcile(cluster, some).await);
    }
    outcome
}

async fn create(cluster: &Cluster, wanted: &[&Wanted]) -> Result<(), KafkaError> {
    let config = |(name, value): (&'static str, String)| {
        CreatableTopicConfig::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(Some(StrBytes::from_string(value)))
    };
    let topic = |wanted: &&Wanted| {
        CreatableTopic::default()
            .with_name(name(&wanted.topic))
            .with_num_partitions(wanted.partitions)
            .with_replication_factor(wanted.replication)
            .with_configs(wanted.settings(wanted.replication as usize).into_iter().map(config).collect())
    };
    let topics = wanted.iter().map(topic).collect();
    let request = CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(ANSWER.as_millis() as i32);
    let answer = cluster.ask_anybody(&request, ANSWER).await?;
    let mut outcome = Ok(());
    for made in answer.topics {
        let (topic, said) = (made.name.0.to_string(), made.error_message.as_deref().unwrap_or_default().to_owned());
        cluster.doubt(&topic);
        match KafkaError::check(made.error_code, || format!("making topic {topic} ({said})")) {
            Ok(()) => info!(topic, partitions = made.num_partitions, copies = made.replication_factor, "made a topic"),
            // Somebody else made it at the same time: the next look compares it.
            Err(error) if error.code() == Some(ResponseError::TopicAlreadyExists) => {}
            Err(error) => outcome = Err(error),
        }
    }
    outcome
}

async fn grow(cluster: &Cluster, wanted: &Wanted) -> Result<(), KafkaError> {
    let topic = CreatePartitionsTopic::default()
        .with_name(name(&wanted.topic))
        .with_count(wanted.partitions)
        .with_assignments(None);
    let request =
        CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(ANSWER.as_millis() as i32);
    let answer = cluster.ask_anybody(&request, ANSWER).await?;
    cluster.doubt(&wanted.topic);
    for grown in answer.results {
        KafkaError::check(grown.error_code, || format!("more partitions for topic {}", wanted.topic))?;
    }
    info!(topic = wanted.topic, partitions = wanted.partitions, "a topic has more partitions");
    Ok(())
}

async fn reconcile(cluster: &Cluster, topics: &[(&Wanted, Arc<Topic>)]) -> Result<(), KafkaError> {
    let names: Vec<&str> = topics.iter().map(|(wanted, _)| wanted.topic.as_str()).collect();
    let settings_of = |(wanted, known): &(&Wanted, Arc<Topic>)| wanted.settings(known.copies).into_keys();
    let keys: BTreeSet<&'static str> = topics.iter().flat_map(settings_of).collect();
    let found = settings(cluster, &names, &keys).await?;
    let mut resources = Vec::new();
    for (wanted, known) in topics {
        let have = found.get(&wanted.topic);
        let differs = |(name, value): &(&'static str, String)| have.is_some_and(|have| have.get(*name) != Some(value));
        let change = |(name, value): (&'static str, String)| {
            info!(topic = wanted.topic, name, value, "a topic's setting is set back to what it should be");
            AlterableConfig::default()
                .with_name(StrBytes::from_static_str(name))
                .with_config_operation(SET)
                .with_value(Some(StrBytes::from_string(value)))
        };
        let changes: Vec<_> = wanted.settings(known.copies).into_iter().filter(differs).map(change).collect();
        if !changes.is_empty() {
            let resource = AlterConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(StrBytes::from_string(wanted.topic.clone()))
                .with_configs(changes);
            resources.push(resource);
        }
    }
    if resources.is_empty() {
        return Ok(());
    }
    let request = IncrementalAlterConfigsRequest::default().with_resources(resources);
    for changed in cluster.ask_anybody(&request, ANSWER).await?.responses {
        KafkaError::check(changed.error_code, || format!("changing settings of topic {}", &*changed.resource_name))?;
    }
    Ok(())
}

/// These settings of topics, by topic and name.
pub async fn settings(
    cluster: &Cluster,
    topics: &[&str],
    keys: &BTreeSet<&'static str>,
) -> Result<HashMap<String, BTreeMap<String, String>>, KafkaError> {
    let resource = |topic: &&str| {
        DescribeConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(StrBytes::from_string((*topic).to_owned()))
            .with_configuration_keys(Some(keys.iter().map(|key| StrBytes::from_static_str(key)).collect()))
    };
    let request = DescribeConfigsRequest::default().with_resources(topics.iter().map(resource).collect());
    let mut found = HashMap::new();
    for described in cluster.ask_anybody(&request, ANSWER).await?.results {
        let topic = described.resource_name.to_string();
        KafkaError::check(described.error_code, || format!("the settings of topic {topic}"))?;
        let pairs = described.configs.into_iter().filter_map(|c| Some((c.name.to_string(), c.value?.to_string())));
        found.insert(topic, pairs.collect());
    }
    Ok(found)
}

/// Deletes a topic; one that is not there is no error.
pub async fn delete(cluster: &Cluster, topic: &str) -> Result<(), KafkaError> {
    let request =
        DeleteTopicsRequest::default().with_topic_names(vec![name(topic)]).with_timeout_ms(ANSWER.as_millis() as i32);
    let answer = cluster.ask_anybody(&request, ANSWER).await?;
    cluster.doubt(topic);
    for deleted in answer.responses {
        if deleted.error_code != ResponseError::UnknownTopicOrPartition.code() {
            KafkaError::check(deleted.error_code, || format!("deleting topic {topic}"))?;
        }
    }
    Ok(())
}
