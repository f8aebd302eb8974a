//! The wire is CSI's, not ours: a field with another number is a field that the orchestrator never
//! sees. So the compiled descriptor is written out as rows of the published interface table and
//! compared with it, both ways. Whatever the table has no word for (a streaming request, an
//! `optional`, an alpha service) makes a row that it does not hold, and so fails as well.
//!
//! The one thing that is ours: what CSI 1.13 removed is still served to sidecars of 1.12.

#![allow(clippy::unwrap_used, reason = "a helper of a test may end the test")]

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::sync::LazyLock;

use offshoot::proto::{self, agent, csi, kubelet, offshoot as own};
use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, ExtensionDescriptor, FieldDescriptor, Kind,
    MessageDescriptor, MethodDescriptor,
};

const TABLE: &str = include_str!("data/csi-v1.13-interface.tsv");
const REMOVED: &str = "removed-in-1.13";

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| DescriptorPool::decode(proto::DESCRIPTOR).unwrap());

/// What CSI 1.13 removed, as (owner, number, name).
static REMOVED_ITEMS: LazyLock<BTreeSet<[&str; 3]>> = LazyLock::new(|| {
    let rows = TABLE.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    rows.filter(|c| c[0] == REMOVED).map(|c| [c[1], c[2], c[3]]).collect()
});

/// One row, in the table's columns: kind, owner, number, name, type, oneof, notes.
fn row(columns: [&str; 7]) -> String {
    columns.join("\t")
}

/// The rows of the table. Its remark that a number is reserved goes: here that number is served,
/// and the row of what was removed stands for it.
fn table() -> BTreeSet<String> {
    let rows = TABLE.lines().skip(1).map(|line| {
        let mut columns: Vec<&str> = line.split('\t').collect();
        columns.resize(7, "");
        if columns[6] == "reserved 2" {
            columns[6] = "";
        }
        columns.join("\t")
    });
    rows.collect()
}

fn local(full_name: &str) -> &str {
    full_name.strip_prefix("csi.v1.").unwrap_or(full_name)
}

/// The notes that these options make, in the table's order.
fn notes(marks: &[(&DynamicMessage, &str, &str)]) -> String {
    let set = marks.iter().filter(|(options, extension, _)| {
        let extension = POOL.get_extension_by_name(&format!("csi.v1.{extension}")).unwrap();
        options.get_extension(&extension).as_bool() == Some(true)
    });
    set.map(|(_, _, note)| *note).collect::<Vec<_>>().join(" ")
}

fn type_name(field: &FieldDescriptor) -> String {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
            format!("map<{:?},{:?}>", key.kind(), value.kind())
        }
        kind if field.is_list() => format!("repeated {kind:?}"),
        kind => format!("{kind:?}"),
    }
}

fn field_row(field: &FieldDescriptor) -> String {
    let owner = field.parent_message();
    let (own, parent) = (field.options(), owner.options());
    let notes = notes(&[
        (&own, "csi_secret", "secret"),
        (&own, "alpha_field", "alpha"),
        (&parent, "alpha_message", "message-alpha"),
    ]);
    let (number, owner) = (field.number().to_string(), local(owner.full_name()));
    if REMOVED_ITEMS.contains(&[owner, &number, field.name()]) {
        return row([REMOVED, owner, &number, field.name(), "", "", "present in 1.12"]);
    }
    let oneof = field.containing_oneof().map(|o| o.name().to_owned()).unwrap_or_default();
    row(["field", owner, &number, field.name(), &type_name(field), &oneof, &notes])
}

fn message_rows(message: &MessageDescriptor) -> Vec<String> {
    if message.fields().len() > 0 {
        return message.fields().map(|field| field_row(&field)).collect();
    }
    let notes = notes(&[(&message.options(), "alpha_message", "message-alpha")]);
    vec![row(["message", local(message.full_name()), "", "", "", "", &notes])]
}

fn enum_rows(item: &EnumDescriptor) -> Vec<String> {
    let owner = local(item.full_name());
    let rows = item.values().map(|value| {
        let number = value.number().to_string();
        if REMOVED_ITEMS.contains(&[owner, &number, value.name()]) {
            return row([REMOVED, owner, &number, value.name(), "", "", "present in 1.12"]);
        }
        let notes = notes(&[
            (&value.options(), "alpha_enum_value", "alpha"),
            (&item.options(), "alpha_enum", "enum-alpha"),
        ]);
        row(["enum", owner, &number, value.name(), "", "", &notes])
    });
    rows.collect()
}

fn method_row(method: &MethodDescriptor) -> String {
    let service = method.parent_service();
    let stream = |yes| if yes { "stream " } else { "" };
    let (input, output) = (method.input(), method.output());
    let signature = format!(
        "{}{} -> {}{}",
        stream(method.is_client_streaming()),
        local(input.full_name()),
        stream(method.is_server_streaming()),
        local(output.full_name()),
    );
    let notes = notes(&[
        (&method.options(), "alpha_method", "alpha"),
        (&service.options(), "alpha_service", "service-alpha"),
    ]);
    row(["rpc", local(service.full_name()), "", method.name(), &signature, "", &notes])
}

fn extension_row(extension: &ExtensionDescriptor) -> String {
    let (owner, number) = (extension.containing_message(), extension.number().to_string());
    let kind = format!("{:?}", extension.kind());
    row(["extension", owner.full_name(), &number, extension.name(), &kind, "", ""])
}

fn descriptor() -> Vec<String> {
    let file = POOL.get_file_by_name("csi/v1/csi.proto").unwrap();
    assert_eq!(file.package_name(), "csi.v1");
    let messages = POOL.all_messages().filter(|m| m.package_name() == "csi.v1" && !m.is_map_entry());
    let mut rows: Vec<String> = messages.flat_map(|m| message_rows(&m)).collect();
    rows.extend(POOL.all_enums().filter(|e| e.package_name() == "csi.v1").flat_map(|e| enum_rows(&e)));
    rows.extend(file.services().flat_map(|s| s.methods().map(|m| method_row(&m)).collect::<Vec<_>>()));
    rows.extend(file.extensions().map(|e| extension_row(&e)));
    rows
}

#[test]
fn the_descriptor_is_the_published_interface_row_by_row() {
    let (expected, found) = (table(), descriptor());
    let set: BTreeSet<String> = found.iter().cloned().collect();
    assert_eq!(set.len(), found.len(), "a row twice");
    let missing: Vec<_> = expected.difference(&set).collect();
    let extra: Vec<_> = set.difference(&expected).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing: {missing:#?}\nextra: {extra:#?}");
    assert_eq!(found.len(), TABLE.lines().count() - 1);
}

#[test]
fn what_1_12_sidecars_read_has_its_old_type() {
    let check = |message: &str, number, expect: &str| {
        let message = POOL.get_message_by_name(&format!("csi.v1.{message}")).unwrap();
        assert_eq!(type_name(&message.get_field(number).unwrap()), expect, "{}", message.full_name());
    };
    check("VolumeCondition", 1, "bool");
    check("VolumeCondition", 2, "string");
    check("ListVolumesResponse.VolumeStatus", 2, "csi.v1.VolumeCondition");
    check("ControllerGetVolumeResponse.VolumeStatus", 2, "csi.v1.VolumeCondition");
    check("NodeGetVolumeStatsResponse", 2, "csi.v1.VolumeCondition");
}

#[test]
fn every_field_called_secrets_is_marked_in_our_own_service_too() {
    let mark = POOL.get_extension_by_name("csi.v1.csi_secret").unwrap();
    let fields = POOL.all_messages().filter(|m| m.package_name() == "offshoot.v1");
    let fields: Vec<_> = fields.flat_map(|m| m.fields().collect::<Vec<_>>()).collect();
    let secrets: Vec<_> = fields.iter().filter(|f| f.name() == "secrets").collect();
    assert_eq!(secrets.len(), 2);
    for field in secrets {
        assert_eq!(field.options().get_extension(&mark).as_bool(), Some(true), "{}", field.full_name());
    }
}

#[test]
fn a_request_prints_everything_but_its_secrets() {
    fn check(request: impl Debug, shown: &str) {
        for text in [format!("{request:?}"), format!("{request:#?}")] {
            assert!(text.contains(shown), "{text}");
            assert!(!text.contains("hunter2"), "{text}");
            assert!(!text.contains("password"), "{text}");
        }
    }
    let secrets = || [("password".to_owned(), "hunter2".to_owned())].into();
    let name = || "data-1".to_owned();
    let mount = csi::volume_capability::MountVolume {
        fs_type: "xfs".to_owned(),
        mount_flags: vec!["password=hunter2".to_owned()],
        ..Default::default()
    };
    let capability = csi::VolumeCapability {
        access_type: Some(csi::volume_capability::AccessType::Mount(mount)),
        access_mode: None,
    };
    check(csi::CreateVolumeRequest { name: name(), secrets: secrets(), ..Default::default() }, "data-1");
    check(csi::DeleteVolumeRequest { volume_id: name(), secrets: secrets() }, "data-1");
    check(
        csi::NodeStageVolumeRequest {
            volume_capability: Some(capability.clone()),
            secrets: secrets(),
            ..Default::default()
        },
        "xfs",
    );
    check(capability, "xfs");
    check(
        own::RefreshVolumeRequest {
            volume_id: name(),
            from: Some(own::refresh_volume_request::From::SourceNow(true)),
            secrets: secrets(),
        },
        "SourceNow",
    );
    check(own::RewindVolumeRequest { volume_id: name(), secrets: secrets(), ..Default::default() }, "data-1");
}

#[test]
fn server_reflection_answers_from_the_descriptor() {
    let service = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTOR)
        .build_v1();
    assert!(service.is_ok(), "{:?}", service.err());
    let services: BTreeSet<_> = POOL.services().map(|s| s.full_name().to_owned()).collect();
    let expected = [
        csi::identity_server::SERVICE_NAME,
        csi::controller_server::SERVICE_NAME,
        csi::group_controller_server::SERVICE_NAME,
        csi::snapshot_metadata_server::SERVICE_NAME,
        csi::node_server::SERVICE_NAME,
        own::data_copies_server::SERVICE_NAME,
        agent::agent_server::SERVICE_NAME,
        agent::enrolment_server::SERVICE_NAME,
        kubelet::registration_server::SERVICE_NAME,
    ];
    assert_eq!(services, expected.iter().map(|s| (*s).to_owned()).collect());
}
