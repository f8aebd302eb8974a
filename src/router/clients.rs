//! Clients of an agent's services, with the limits that the server side has too.

use tonic::transport::Channel;

use crate::csi::server::MAX_REQUEST;
use crate::proto::agent::agent_client::AgentClient;
use crate::proto::csi::controller_client::ControllerClient;
use crate::proto::csi::group_controller_client::GroupControllerClient;
use crate::proto::csi::snapshot_metadata_client::SnapshotMetadataClient;
use crate::proto::offshoot::data_copies_client::DataCopiesClient;

pub(super) fn controller(channel: Channel) -> ControllerClient<Channel> {
    ControllerClient::new(channel).max_decoding_message_size(MAX_REQUEST)
}

pub(super) fn group(channel: Channel) -> GroupControllerClient<Channel> {
    GroupControllerClient::new(channel).max_decoding_message_size(MAX_REQUEST)
}

pub(super) fn metadata(channel: Channel) -> SnapshotMetadataClient<Channel> {
    SnapshotMetadataClient::new(channel).max_decoding_message_size(MAX_REQUEST)
}

pub(super) fn copies(channel: Channel) -> DataCopiesClient<Channel> {
    DataCopiesClient::new(channel).max_decoding_message_size(MAX_REQUEST)
}

pub(super) fn agent(channel: Channel) -> AgentClient<Channel> {
    AgentClient::new(channel).max_decoding_message_size(MAX_REQUEST)
}
