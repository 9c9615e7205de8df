//! Makes topics and keeps them as they are wanted: partitions, replication, settings.

use std::collections::BTreeMap;

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

use crate::cluster::{ANSWER, Cluster, TopicId, name};
use crate::error::KafkaError;

/// How the protocol calls a topic among the things that have settings.
const TOPIC: i8 = 2;
/// How the protocol calls "set this value".
const SET: i8 = 0;

/// What a topic should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub topic: String,
    /// Partitions: at least as many.
    pub partitions: i32,
    /// Copies of each; none: as the cluster has it by default. It cannot be changed here once the topic is made.
    pub replication: Option<i16>,
    /// Settings by name.
    pub settings: BTreeMap<&'static str, String>,
}

/// Makes the topic what it should be. Answers with its id.
pub async fn ensure(cluster: &Cluster, wanted: &Wanted) -> Result<TopicId, KafkaError> {
    cluster.refresh(std::slice::from_ref(&wanted.topic)).await?;
    let known = match cluster.topic(&wanted.topic).await {
        Ok(known) => known,
        Err(error) if error.code() == Some(ResponseError::UnknownTopicOrPartition) => {
            return create(cluster, wanted).await;
        }
        Err(error) => return Err(error),
    };
    if (known.leaders.len() as i32) < wanted.partitions {
        grow(cluster, wanted).await?;
    }
    reconcile(cluster, wanted).await?;
    Ok(known.id)
}

async fn create(cluster: &Cluster, wanted: &Wanted) -> Result<TopicId, KafkaError> {
    let config = |(name, value): (&&'static str, &String)| {
        CreatableTopicConfig::default()
            .with_name(StrBytes::from_static_str(name))
            .with_value(Some(StrBytes::from_string(value.clone())))
    };
    let topic = CreatableTopic::default()
        .with_name(name(&wanted.topic))
        .with_num_partitions(wanted.partitions)
        .with_replication_factor(wanted.replication.unwrap_or(-1))
        .with_configs(wanted.settings.iter().map(config).collect());
    let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(ANSWER.as_millis() as i32);
    let answer = cluster.ask_anybody(&request).await?;
    for made in answer.topics {
        // Somebody else made it at the same time: the next look compares it.
        if made.error_code != ResponseError::TopicAlreadyExists.code() {
            let said = made.error_message.as_deref().unwrap_or_default().to_owned();
            KafkaError::check(made.error_code, || format!("making topic {} ({said})", wanted.topic))?;
            info!(topic = wanted.topic, partitions = wanted.partitions, "made a topic");
        }
    }
    cluster.refresh(std::slice::from_ref(&wanted.topic)).await?;
    Ok(cluster.topic(&wanted.topic).await?.id)
}

async fn grow(cluster: &Cluster, wanted: &Wanted) -> Result<(), KafkaError> {
    let topic = CreatePartitionsTopic::default()
        .with_name(name(&wanted.topic))
        .with_count(wanted.partitions)
        .with_assignments(None);
    let request =
        CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(ANSWER.as_millis() as i32);
    let answer = cluster.ask_anybody(&request).await?;
    for grown in answer.results {
        KafkaError::check(grown.error_code, || format!("more partitions for topic {}", wanted.topic))?;
    }
    info!(topic = wanted.topic, partitions = wanted.partitions, "a topic has more partitions");
    cluster.refresh(std::slice::from_ref(&wanted.topic)).await
}

async fn reconcile(cluster: &Cluster, wanted: &Wanted) -> Result<(), KafkaError> {
    let found = settings(cluster, &wanted.topic).await?;
    let differs = |(name, value): &(&&'static str, &String)| found.get(**name) != Some(*value);
    let change = |(name, value): (&&'static str, &String)| {
        AlterableConfig::default()
            .with_name(StrBytes::from_static_str(name))
            .with_config_operation(SET)
            .with_value(Some(StrBytes::from_string(value.clone())))
    };
    let changes: Vec<AlterableConfig> = wanted.settings.iter().filter(differs).map(change).collect();
    if changes.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = changes.iter().map(|change| change.name.to_string()).collect();
    let resource = AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(StrBytes::from_string(wanted.topic.clone()))
        .with_configs(changes);
    let answer = cluster.ask_anybody(&IncrementalAlterConfigsRequest::default().with_resources(vec![resource])).await?;
    for changed in answer.responses {
        KafkaError::check(changed.error_code, || format!("changing {} of topic {}", names.join(", "), wanted.topic))?;
    }
    info!(topic = wanted.topic, settings = names.join(", "), "a topic's settings are as wanted again");
    Ok(())
}

/// A topic's settings.
pub async fn settings(cluster: &Cluster, topic: &str) -> Result<BTreeMap<String, String>, KafkaError> {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(StrBytes::from_string(topic.to_owned()))
        .with_configuration_keys(None);
    let answer = cluster.ask_anybody(&DescribeConfigsRequest::default().with_resources(vec![resource])).await?;
    let mut found = BTreeMap::new();
    for described in answer.results {
        KafkaError::check(described.error_code, || format!("the settings of topic {topic}"))?;
        let pairs = described.configs.into_iter().filter_map(|c| Some((c.name.to_string(), c.value?.to_string())));
        found.extend(pairs);
    }
    Ok(found)
}

/// Deletes a topic; one that is not there is no error.
pub async fn delete(cluster: &Cluster, topic: &str) -> Result<(), KafkaError> {
    let request =
        DeleteTopicsRequest::default().with_topic_names(vec![name(topic)]).with_timeout_ms(ANSWER.as_millis() as i32);
    let answer = cluster.ask_anybody(&request).await?;
    cluster.doubt(topic);
    for deleted in answer.responses {
        if deleted.error_code != ResponseError::UnknownTopicOrPartition.code() {
            KafkaError::check(deleted.error_code, || format!("deleting topic {topic}"))?;
        }
    }
    Ok(())
}
