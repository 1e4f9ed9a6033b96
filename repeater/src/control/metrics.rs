//! The recorder behind `/metrics`.

use std::time::Duration;

use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

/// Upper bounds for times of forwarding, in seconds: fine below 2 ms, where the promises are.
const FORWARD: [f64; 20] = [
    0.000_02, 0.000_05, 0.000_075, 0.000_1, 0.000_125, 0.000_15, 0.000_2, 0.000_25, 0.000_3,
    0.000_4, 0.000_5, 0.000_75, 0.001, 0.001_5, 0.002, 0.003, 0.005, 0.01, 0.1, 1.0,
];
/// Upper bounds for all other times, in seconds.
const SECONDS: [f64; 12] = [
    0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0,
];
/// How often the recorder folds its samples into its histograms; without it they grow.
const UPKEEP: Duration = Duration::from_secs(5);

fn builder() -> Result<PrometheusBuilder, BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(
            Matcher::Full("btslave_forward_seconds".to_owned()),
            &FORWARD,
        )?
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
}

/// Makes the process's recorder. Call it once, before anything counts.
///
/// # Errors
/// There is a recorder already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    builder()?.install_recorder()
}

/// A recorder that is not the process's: for tests, and for several daemons in one process.
///
/// # Errors
/// None in practice: the bounds are not empty.
pub fn detached() -> Result<PrometheusRecorder, BuildError> {
    Ok(builder()?.build_recorder())
}

/// Folds samples until dropped or aborted.
pub async fn upkeep(handle: PrometheusHandle) {
    let mut tick = tokio::time::interval(UPKEEP);
    loop {
        tick.tick().await;
        handle.run_upkeep();
    }
}
