//! The calls that this client makes: each request with its key, its answer, and the newest version that we speak.

use kafka_protocol::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, ApiKey, ApiVersionsRequest, ApiVersionsResponse,
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest,
    DeleteTopicsResponse, DescribeConfigsRequest, DescribeConfigsResponse, DescribeTransactionsRequest,
    DescribeTransactionsResponse, EndTxnRequest, EndTxnResponse, FetchRequest, FetchResponse, FindCoordinatorRequest,
    FindCoordinatorResponse, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, InitProducerIdRequest,
    InitProducerIdResponse, ListOffsetsRequest, ListOffsetsResponse, ListTransactionsRequest, ListTransactionsResponse,
    MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message};

/// A request of the protocol.
pub trait Call: Encodable + HeaderVersion + Message + Send {
    /// Which call.
    const KEY: ApiKey;
    /// Its name, for people.
    const NAME: &'static str;
    /// The newest version that this client speaks.
    const NEWEST: i16;
    /// Its answer.
    type Answer: Decodable + HeaderVersion + Send;
}

macro_rules! calls {
    ($($key:ident $request:ty => $answer:ty, $newest:literal, $name:literal;)*) => {$(
        impl Call for $request {
            const KEY: ApiKey = ApiKey::$key;
            const NAME: &'static str = $name;
            const NEWEST: i16 = $newest;
            type Answer = $answer;
        }
    )*};
}

calls! {
    // From version 13 on topics are named by their id, so that one that was deleted and made again is another.
    Produce ProduceRequest => ProduceResponse, 13, "produce";
    Fetch FetchRequest => FetchResponse, 13, "fetch";
    ListOffsets ListOffsetsRequest => ListOffsetsResponse, 7, "list offsets";
    Metadata MetadataRequest => MetadataResponse, 12, "metadata";
    ApiVersions ApiVersionsRequest => ApiVersionsResponse, 3, "API versions";
    CreateTopics CreateTopicsRequest => CreateTopicsResponse, 7, "create topics";
    DeleteTopics DeleteTopicsRequest => DeleteTopicsResponse, 5, "delete topics";
    CreatePartitions CreatePartitionsRequest => CreatePartitionsResponse, 3, "create partitions";
    DescribeConfigs DescribeConfigsRequest => DescribeConfigsResponse, 4, "describe configs";
    IncrementalAlterConfigs IncrementalAlterConfigsRequest => IncrementalAlterConfigsResponse, 1, "alter configs";
    FindCoordinator FindCoordinatorRequest => FindCoordinatorResponse, 4, "find coordinator";
    InitProducerId InitProducerIdRequest => InitProducerIdResponse, 4, "init producer id";
    // Version 4 and later of this one are for brokers.
    AddPartitionsToTxn AddPartitionsToTxnRequest => AddPartitionsToTxnResponse, 3, "add partitions to transaction";
    // Version 5 belongs to the protocol in which the broker changes the epoch with every transaction.
    EndTxn EndTxnRequest => EndTxnResponse, 4, "end transaction";
    ListTransactions ListTransactionsRequest => ListTransactionsResponse, 0, "list transactions";
    DescribeTransactions DescribeTransactionsRequest => DescribeTransactionsResponse, 0, "describe transactions";
}
