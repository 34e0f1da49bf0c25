//! What the entries of one message ask for.

use crate::envoy::lease::{KEY, Lease, NAMESPACE, from_struct};
use crate::pb::envoy::data::accesslog::v3::{AccessLogCommon, AccessLogType};
use crate::pb::envoy::service::accesslog::v3::StreamAccessLogsMessage;
use crate::pb::envoy::service::accesslog::v3::stream_access_logs_message::LogEntries;
use prost_types::value::Kind;

/// The leases of one message.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// First, since what begins and ends in one message has ended.
    pub(super) renewals: Vec<Lease>,
    pub(super) releases: Vec<Lease>,
}

impl Work {
    /// What a message asks for; entries without a lease are for others.
    pub(super) fn of(message: StreamAccessLogsMessage) -> Self {
        let mut work = Self::default();
        match message.log_entries {
            Some(LogEntries::HttpLogs(logs)) => {
                logs.log_entry.iter().for_each(|entry| work.add(entry.common_properties.as_ref()));
            }
            Some(LogEntries::TcpLogs(logs)) => {
                logs.log_entry.iter().for_each(|entry| work.add(entry.common_properties.as_ref()));
            }
            None => {}
        }
        work
    }

    fn add(&mut self, common: Option<&AccessLogCommon>) {
        use AccessLogType as Type;
        let Some(common) = common else { return };
        let into = match common.access_log_type() {
            Type::DownstreamStart
            | Type::DownstreamPeriodic
            | Type::DownstreamTunnelSuccessfullyEstablished
            | Type::TcpConnectionStart
            | Type::TcpUpstreamConnected
            | Type::TcpPeriodic => &mut self.renewals,
            Type::DownstreamEnd | Type::TcpConnectionEnd => &mut self.releases,
            _ => return,
        };
        into.extend(lease(common));
    }
}

fn lease(common: &AccessLogCommon) -> Option<Lease> {
    let metadata = common.metadata.as_ref()?.filter_metadata.get(NAMESPACE)?;
    match metadata.fields.get(KEY)?.kind.as_ref()? {
        Kind::StructValue(lease) => from_struct(lease),
        _ => None,
    }
}
