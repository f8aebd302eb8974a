//! Turns `proto/` into Rust.
//!
//! The problem: a build must need no protoc and no network, and a request that carries credentials
//! must not be able to print them. So the files are compiled by protox, and every message with a
//! field that is marked `csi_secret` gets a `Debug` from here that leaves the value out. The list
//! is read from the descriptor: a new secret field is covered by its mark alone.
//!
//! Written to `OUT_DIR`: one Rust file per package, the `Debug` implementations of each, and the
//! encoded descriptor that server reflection and the tests read.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use protox::Compiler;
use protox::prost_reflect::{DescriptorPool, ExtensionDescriptor, FieldDescriptor, MessageDescriptor};

const PROTOS: [&str; 4] = [
    "csi/v1/csi.proto",
    "offshoot/v1/offshoot.proto",
    "offshoot/agent/v1/agent.proto",
    "kubelet/registration.proto",
];
const PACKAGES: [&str; 4] = ["csi.v1", "offshoot.v1", "offshoot.agent.v1", "pluginregistration"];

/// Not marked in CSI's descriptor, but its text asks for the same care: mount options can hold
/// a password.
const ALSO_SECRET: [&str; 1] = ["csi.v1.VolumeCapability.MountVolume.mount_flags"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=proto");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let mut compiler = Compiler::new(["proto"])?;
    compiler.include_imports(true).open_files(PROTOS)?;
    // Encoded by the compiler and not through prost-types, which would drop the marks.
    fs::write(out.join("descriptor.bin"), compiler.encode_file_descriptor_set())?;

    let mut rust = tonic_prost_build::configure();
    let redacted = redact(&compiler.descriptor_pool(), &out)?;
    // A message that skips its `Debug` skips its oneofs' as well: those hold no secret here.
    for oneof in redacted.iter().flat_map(|m| m.oneofs()) {
        rust = rust.enum_attribute(oneof.full_name(), "#[derive(Debug)]");
    }
    let redacted: Vec<_> = redacted.iter().map(|m| format!(".{}", m.full_name())).collect();

    // With the comments this time: they become the docs of the generated types.
    let files = compiler.include_source_info(true).file_descriptor_set();
    // Ordered maps: what is encoded, hashed or logged is the same every time.
    rust.btree_map(".").skip_debug(redacted).compile_fds(files)?;
    Ok(())
}

/// Writes `PACKAGE.debug.rs` for each package and returns the messages that it covers.
///
/// Refuses a secret field in a oneof: the oneof is a type of its own, and would print it.
fn redact(pool: &DescriptorPool, out: &Path) -> Result<Vec<MessageDescriptor>, Box<dyn Error>> {
    let mark = pool.get_extension_by_name("csi.v1.csi_secret").ok_or("csi_secret is not defined")?;
    let mut redacted = Vec::new();
    for package in PACKAGES {
        let mut code = String::new();
        for message in pool.all_messages().filter(|m| m.package_name() == package) {
            if message.fields().any(|f| is_secret(&f, &mark)) {
                write_debug(&mut code, &message, &mark)?;
                redacted.push(message);
            }
        }
        fs::write(out.join(format!("{package}.debug.rs")), code)?;
    }
    Ok(redacted)
}

fn is_secret(field: &FieldDescriptor, mark: &ExtensionDescriptor) -> bool {
    let marked = field.options().get_extension(mark).as_bool() == Some(true);
    marked || ALSO_SECRET.contains(&field.full_name())
}

/// A `Debug` as derived, but for the values of secret fields. A oneof is one field, as it is in
/// the generated struct.
fn write_debug(
    code: &mut String,
    message: &MessageDescriptor,
    mark: &ExtensionDescriptor,
) -> Result<(), Box<dyn Error>> {
    let mut fields: Vec<(String, bool)> = Vec::new();
    for field in message.fields() {
        let secret = is_secret(&field, mark);
        match field.containing_oneof() {
            Some(_) if secret => return Err(format!("{}: a secret in a oneof", field.full_name()).into()),
            Some(oneof) if fields.iter().any(|(known, _)| known == oneof.name()) => {}
            Some(oneof) => fields.push((oneof.name().to_owned(), false)),
            None => fields.push((field.name().to_owned(), secret)),
        }
    }
    writeln!(code, "impl ::core::fmt::Debug for {} {{", rust_path(message))?;
    writeln!(code, "    fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{")?;
    writeln!(code, "        f.debug_struct({:?})", message.name())?;
    for (name, secret) in fields {
        let value = if secret { "format_args!(\"<redacted>\")".to_owned() } else { format!("self.{name}") };
        writeln!(code, "            .field({name:?}, &{value})")?;
    }
    writeln!(code, "            .finish()\n    }}\n}}")?;
    Ok(())
}

/// The path of a message inside its package's module: nested messages live in modules named after
/// their parents. A name that this gets wrong does not compile.
fn rust_path(message: &MessageDescriptor) -> String {
    match message.parent_message() {
        Some(parent) => format!("{}::{}", module_path(&parent), message.name()),
        None => message.name().to_owned(),
    }
}

fn module_path(message: &MessageDescriptor) -> String {
    let own = snake_case(message.name());
    message.parent_message().map_or(own.clone(), |parent| format!("{}::{own}", module_path(&parent)))
}

fn snake_case(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}
