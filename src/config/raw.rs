//! `doorman.toml` as it is written: unknown keys are refused, nothing is judged yet.

use std::collections::BTreeMap;

use serde::Deserialize;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {
    pub(super) platform: RawPlatform,
    pub(super) agents: Vec<RawAgent>,
    pub(super) answers: RawAnswers,
    pub(super) ledger: RawLedger,
    pub(super) control: RawControl,
    pub(super) reload: RawReload,
    pub(super) log: RawLog,
    pub(super) timing: BTreeMap<String, String>,
}

/// `[platform]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPlatform {
    pub(super) url: Option<String>,
    pub(super) rest_url: Option<String>,
    pub(super) socket_url: Option<String>,
    pub(super) ca_file: Option<String>,
    pub(super) credentials: Option<String>,
}

/// One of `[[agents]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAgent {
    pub(super) id: String,
    pub(super) api_key_file: Option<String>,
    pub(super) api_key_env: Option<String>,
    pub(super) api_key_credential: Option<String>,
    pub(super) rules: Option<String>,
    pub(super) connection: Option<String>,
}

/// `[answers]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAnswers {
    pub(super) in_flight: Option<u32>,
    pub(super) per_second: Option<u32>,
}

/// `[ledger]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLedger {
    pub(super) path: Option<String>,
    pub(super) keep: Option<String>,
}

/// `[control]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawControl {
    pub(super) path: Option<String>,
}

/// `[reload]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawReload {
    pub(super) watch: Option<bool>,
}

/// `[log]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLog {
    pub(super) format: Option<String>,
    pub(super) level: Option<String>,
}
