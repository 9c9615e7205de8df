//! How far a job is behind the journal, as its connector's gauges say (`isolane.cluster.<name>.partition.<n>.lag`).

use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::job::Id;
use crate::rest::{Rest, RestError};

/// Gauges asked for at once: Flink's server takes a request line of 4 KiB.
const GAUGES_MAX: usize = 16;

/// Records that stand behind those that the job has read, in all partitions of all clusters; `None` while the end of one of them is
/// not known, or none has brought anything.
///
/// # Errors
/// The JobManager does not answer, or does not know the job.
pub async fn of(rest: &Rest, job: Id) -> Result<Option<u64>, RestError> {
    let job = format!("/jobs/{job}");
    let graph = rest.call(Method::GET, &job, None).await?;
    let mut lags = Vec::new();
    for vertex in graph["vertices"].as_array().into_iter().flatten().filter_map(|vertex| vertex["id"].as_str()) {
        let path = format!("{job}/vertices/{vertex}/subtasks/metrics");
        let gauges = gauges(&rest.call(Method::GET, &path, None).await?);
        for gauges in gauges.chunks(GAUGES_MAX) {
            let asked = format!("{path}?get={}&agg=min,sum", gauges.join(","));
            lags.push(sum(&rest.call(Method::GET, &asked, None).await?));
        }
    }
    let known: Option<Vec<u64>> = lags.into_iter().collect();
    Ok(known.filter(|lags| !lags.is_empty()).map(|lags| lags.iter().sum()))
}

/// The names of a vertex's gauges, as they stand in a request.
fn gauges(answer: &Value) -> Vec<String> {
    let names = answer.as_array().into_iter().flatten().filter_map(|gauge| gauge["id"].as_str());
    let lags = names.filter(|name| name.contains(".isolane.cluster.") && name.ends_with(".lag"));
    lags.map(|name| utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()).collect()
}

/// The sum of gauges; below 0 is one that does not know.
fn sum(answer: &Value) -> Option<u64> {
    let lag = |gauge: &Value| Some(gauge["sum"].as_f64()? as u64).filter(|_| gauge["min"].as_f64() >= Some(0.0));
    answer.as_array()?.iter().map(lag).sum()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::fake::server;

    /// As Flink 1.20.5 answers; 20 partitions, in the second of two vertices.
    async fn lag(of_partition: fn(usize) -> f64) -> (Option<u64>, usize) {
        let gauge = |partition: usize| format!("isolane-take: s[1].isolane.cluster.normal.partition.{partition}.lag");
        let (rest, asked) = server(move |line, _| {
            let answer = match line {
                line if line.contains("?get=") => {
                    let asked = |partition: &usize| line.contains(&format!("partition%2E{partition}%2Elag"));
                    let told = |at| json!({ "id": gauge(at), "min": of_partition(at), "sum": of_partition(at) });
                    json!((0..20).filter(asked).map(told).collect::<Vec<_>>())
                }
                line if line.contains("/vertices/b/") => {
                    let id = |partition| json!({ "id": gauge(partition) });
                    json!((0..20).map(id).chain([json!({ "id": "x.isolane.rows" })]).collect::<Vec<_>>())
                }
                line if line.contains("/vertices/") => json!([]),
                _ => json!({ "vertices": [{ "id": "a" }, { "id": "b" }] }),
            };
            (200, answer.to_string())
        })
        .await;
        let id = Id::try_from("000000000000000000000000000000aa".to_owned()).unwrap();
        let lag = of(&rest, id).await.unwrap();
        let asked = asked.lock().unwrap();
        assert!(asked.iter().all(|(line, _)| line.len() < 4_000), "{asked:?}");
        (lag, asked.len())
    }

    #[tokio::test]
    async fn the_lags_of_all_partitions_are_added() {
        assert_eq!(lag(|partition| partition as f64).await, (Some(190), 5));
    }

    #[tokio::test]
    async fn a_partition_whose_end_is_not_known_makes_it_unknown() {
        assert_eq!(lag(|partition| if partition == 7 { -1.0 } else { 3.0 }).await.0, None);
    }
}
