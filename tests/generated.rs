//! The reference pages in `docs/reference/` are made from the program itself, so that they cannot be wrong.
//!
//! `OFFSHOOT_BLESS=1 cargo test --test generated` writes them anew after a change of flags, parameters or metrics.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, ArgAction, Command, CommandFactory as _};
use offshoot::cli::{Cli, Plugin};
use offshoot::delphix::param_docs as delphix;
use offshoot::metrics::table;
use offshoot::volume::params::{DOCS, Place};

/// Compares a page with what it has to be, or writes it.
#[track_caller]
fn check(name: &str, page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference").join(name);
    if std::env::var_os("OFFSHOOT_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, page).unwrap();
        return;
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    if let Some((n, (old, new))) =
        there.lines().chain([""]).zip(page.lines().chain([""])).enumerate().find(|(_, (old, new))| old != new)
    {
        panic!(
            "docs/reference/{name} line {} is\n  {old}\nand has to be\n  {new}\nwrite it anew with: OFFSHOOT_BLESS=1 cargo test --test generated",
            n + 1
        );
    }
    assert_eq!(there, page, "docs/reference/{name}");
}

const MADE: &str = "<!-- Made by `OFFSHOOT_BLESS=1 cargo test --test generated`; do not edit. -->\n\n";

/// Text for a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

#[test]
fn the_page_of_commands_is_what_the_program_says() {
    let mut cli = Cli::command();
    cli.build();
    let mut page = format!("# Commands\n\n{MADE}");
    page += "Every command but the servers, `certificates` and `completions` asks the server on its socket. Exit codes: 0 when it worked, 1 when it did\n\
             not (standard error says why and what to do), 2 when the command line was not understood.\n";
    command(&cli, 1, &mut page);
    check("cli.md", &page);
}

#[test]
fn the_page_of_the_plugin_is_what_the_plugin_says() {
    let mut plugin = Plugin::command();
    plugin.build();
    let mut page = format!("# Commands of `kubectl offshoot`\n\n{MADE}");
    page += "The program is `offshoot` itself under the name `kubectl-offshoot`; `offshoot kubectl` is the same. Exit codes: 0 when it\n\
             worked, 1 when it did not or something remained, 2 when the command line was not understood.\n";
    command(&plugin, 1, &mut page);
    check("kubectl.md", &page);
}

fn command(command: &Command, depth: usize, page: &mut String) {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    // The plugin has a page of its own.
    if depth > 1 && command.get_name() == "kubectl" {
        writeln!(
            page,
            "\n## offshoot kubectl\n\n{}: see [its page](kubectl.md)",
            command.get_about().unwrap()
        )
        .unwrap();
        return;
    }
    if depth > 1 {
        writeln!(page, "\n{} {name}\n", "#".repeat(depth.min(4))).unwrap();
        let about = command.get_long_about().or(command.get_about()).unwrap();
        writeln!(page, "{about}").unwrap();
        let aliases: Vec<_> = command.get_visible_aliases().map(|alias| format!("`{alias}`")).collect();
        if !aliases.is_empty() {
            writeln!(page, "\nShort: {}", aliases.join(", ")).unwrap();
        }
        let usage = command.clone().render_usage().to_string();
        writeln!(page, "\n```\n{}\n```", usage.trim_start_matches("Usage: ").replace("\n       ", "\n"))
            .unwrap();
        if let Some(examples) = command.get_after_long_help() {
            let text = examples.to_string();
            let (title, examples) = text.split_once('\n').unwrap();
            let lines: Vec<_> = examples.lines().map(str::trim).collect();
            writeln!(page, "\n{title}\n\n```\n{}\n```", lines.join("\n")).unwrap();
        }
        let args: Vec<_> = command
            .get_arguments()
            .filter(|arg| !arg.is_hide_set() && !["help", "version"].contains(&arg.get_id().as_str()))
            .collect();
        if !args.is_empty() {
            page.push_str("\n| argument | meaning | default | environment |\n| --- | --- | --- | --- |\n");
            for arg in args {
                argument(arg, page);
            }
        }
    }
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        self::command(sub, depth + 1, page);
    }
}

fn argument(arg: &Arg, page: &mut String) {
    let values: Vec<String> =
        arg.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect();
    let takes = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
    let mut name: Vec<String> = Vec::new();
    name.extend(arg.get_short().map(|short| format!("-{short}")));
    name.extend(arg.get_long().map(|long| format!("--{long}")));
    let mut name = name.join(", ");
    if takes {
        if !name.is_empty() {
            name.push(' ');
        }
        name += &values.join(" ");
    }
    let mut help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let choices: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|value| takes && !value.is_hide_set())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    // `auto` and the like stand in the help; a list of the values is of use where the type has one.
    if !choices.is_empty() {
        help += &format!(": {}", choices.join(", "));
    }
    // Where the default depends on something, the help ends in it.
    let mut default: Vec<String> = arg
        .get_default_values()
        .iter()
        .filter(|_| takes)
        .map(|value| format!("`{}`", value.to_string_lossy()))
        .collect();
    if let Some((before, after)) = help.clone().split_once(" [default: ") {
        let (inside, rest) = after.split_once(']').unwrap();
        default.push(inside.to_owned());
        help = format!("{before}{rest}");
    }
    let env = arg.get_env().map(|env| format!("`{}`", env.to_string_lossy())).unwrap_or_default();
    let row = [format!("`{name}`"), help, default.join(", "), env].map(|text| cell(&text));
    writeln!(page, "| {} |", row.join(" | ")).unwrap();
}

#[test]
fn the_page_of_parameters_is_the_table_that_parsing_asks() {
    let mut page = format!("# Parameters\n\n{MADE}");
    page += "What a StorageClass, a VolumeAttributesClass, an inline volume or a VolumeSnapshotClass may say. A key that is not\n\
             known is refused. Kubernetes' own keys (`csi.storage.k8s.io/…`) are accepted everywhere.\n\n\
             | key | values | default | where | meaning |\n| --- | --- | --- | --- | --- |\n";
    for doc in DOCS {
        let places: Vec<_> = doc.places.iter().map(|place| place_name(*place)).collect();
        let key = format!("`{}`", doc.key);
        let row = [&key, doc.values, doc.default, &places.join(", "), doc.meaning].map(cell);
        writeln!(page, "| {} |", row.join(" | ")).unwrap();
    }
    check("parameters.md", &page);
}

#[test]
fn the_page_of_delphix_parameters_is_the_table_that_parsing_asks() {
    let mut page = format!("# Parameters of the Delphix driver\n\n{MADE}");
    page += "What a StorageClass or a VolumeSnapshotClass of the driver `delphix.csi.offshoot.dev` may say. A key that is not known is\n\
             refused. Kubernetes' own keys (`csi.storage.k8s.io/…`) are accepted everywhere. How to use them is in\n\
             [install](install.md); what was verified, and how, in [limits](limits.md).\n\n\
             | key | values | default | where | meaning |\n| --- | --- | --- | --- | --- |\n";
    for doc in delphix::DOCS {
        let places: Vec<_> = doc.places.iter().map(|place| place_name(*place)).collect();
        let key = format!("`{}`", doc.key);
        let row = [&key, doc.values, doc.default, &places.join(", "), doc.meaning].map(cell);
        writeln!(page, "| {} |", row.join(" | ")).unwrap();
    }
    page += "\n## Annotations of the vendor's driver\n\n\
             With `--vendor-annotations`, these annotations of a claim are stronger than its StorageClass.\n\n\
             | annotation | parameter |\n| --- | --- |\n";
    for (annotation, parameter) in delphix::ANNOTATIONS {
        writeln!(page, "| `{annotation}` | `{parameter}` |").unwrap();
    }
    check("../delphix/parameters.md", &page);
}

fn place_name(place: Place) -> &'static str {
    match place {
        Place::StorageClass => "StorageClass",
        Place::AttributesClass => "VolumeAttributesClass",
        Place::Inline => "inline volume",
        Place::SnapshotClass => "VolumeSnapshotClass",
    }
}

#[test]
fn the_page_of_metrics_is_the_table_that_they_are_registered_from() {
    let mut page = format!("# Metrics\n\n{MADE}");
    page += "What `/metrics` of the admin address shows, in the format of Prometheus.\n\n\
             | metric | type | labels | meaning |\n| --- | --- | --- | --- |\n";
    for metric in table::ALL {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let row = [
            format!("`{}`", metric.family()),
            metric.kind.as_str().to_owned(),
            labels.join(", "),
            metric.help.to_owned(),
        ];
        writeln!(page, "| {} |", row.map(|text| cell(&text)).join(" | ")).unwrap();
    }
    check("metrics.md", &page);
}
