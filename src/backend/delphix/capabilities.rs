//! What a release of Data Control Tower can do, found out by asking it.
//!
//! Fields came with releases, and a request that has one too many is refused. A DCT serves its own specification, tens of megabytes of
//! YAML; that is read line by line as it comes, keeping only where in the tree a line stands, and never held. It begins with the
//! version: if that is the one that is known already, the rest is not read. Where there is no specification, the fields of an
//! answer say what they can.

use std::fmt;

use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::dct::Dct;
use super::fault::{Failure, Fault, Result};
use super::filter::{Filter, Sort};
use super::kinds::Object;
use super::model::{DSource, Vdb};

const SPECIFICATION: &str = "GET /dct/static/api-external.yaml";
/// The largest specification that is read, bytes.
const LARGEST: usize = 512 << 20;
/// Longest line that is looked at, bytes; the fields are on short ones.
const LONGEST_LINE: usize = 4096;
/// How often the specification is asked for when the DCT is not reached.
const ATTEMPTS: u32 = 3;

/// What a release can do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// VDBs say where their data is exported; from 21.0.0.
    pub exported_data_directory: bool,
    /// VDBs can be for containers; from 2025.1.
    pub container_mode: bool,
    /// Who owns the files can be said; from 2025.2.
    pub ownership_spec: bool,
    /// VDBs can be made of nothing; from 2025.6.
    pub empty_vdb: bool,
    /// VDBs say their NFS version; from 2025.6.
    pub nfs_version: bool,
    /// A refresh can be undone; from 24.0.0.
    pub undo_refresh: bool,
    /// The version of the interface, such as `3.30.0`; absent where there is no specification.
    pub version: Option<String>,
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            ("exported_data_directory", self.exported_data_directory),
            ("container_mode", self.container_mode),
            ("ownership_spec", self.ownership_spec),
            ("empty_vdb", self.empty_vdb),
            ("nfs_version", self.nfs_version),
            ("undo_refresh", self.undo_refresh),
        ];
        let named = |has: bool| {
            let names: Vec<_> = all.iter().filter(|(_, is)| *is == has).map(|(name, _)| *name).collect();
            if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
        };
        let version = self.version.as_deref().unwrap_or("unknown");
        write!(f, "interface {version}; has {}; lacks {}", named(true), named(false))
    }
}

/// What was found out, and when.
#[derive(Default)]
pub(super) struct Known(Mutex<Option<(Instant, Capabilities)>>);

impl Dct {
    /// What this release can do. Found out once and believed for `timing.capabilities-for`.
    pub async fn capabilities(&self) -> Result<Capabilities> {
        let mut known = self.0.known.0.lock().await;
        if let Some((at, can)) = &*known
            && at.elapsed() < self.timing().capabilities_for
        {
            return Ok(can.clone());
        }
        let before = known.as_ref().map(|(_, can)| can.clone());
        let can = match (self.find_out(before.as_ref()).await, before) {
            (Ok(can), _) => can,
            (Err(failure), Some(before)) => {
                tracing::warn!(dct = self.name(), "what this DCT can do is not known anew: {failure}");
                return Ok(before);
            }
            (Err(failure), None) => return Err(failure),
        };
        tracing::debug!(dct = self.name(), "{can}");
        *known = Some((Instant::now(), can.clone()));
        Ok(can)
    }

    async fn find_out(&self, before: Option<&Capabilities>) -> Result<Capabilities> {
        let mut attempt = 1;
        let found = loop {
            match self.specification(before).await {
                Err(failure) if *failure.fault() == Fault::Unreachable && attempt < ATTEMPTS => {
                    tokio::time::sleep(self.timing().retry_first * attempt).await;
                    attempt += 1;
                }
                found => break found,
            }
        };
        match found {
            Ok(Some(can)) => Ok(can),
            Err(failure) if matches!(failure.fault(), Fault::Unreachable | Fault::Denied) => Err(failure),
            // There is none here, or it is not one.
            Ok(None) | Err(_) => self.answers().await,
        }
    }

    /// What the specification says; `None` if it does not look like one.
    async fn specification(&self, before: Option<&Capabilities>) -> Result<Option<Capabilities>> {
        let transport = &self.0.transport;
        let limit = transport.settings.timing.request_timeout;
        let lost = |why: &str| {
            let text = format!("{SPECIFICATION}: {} {why}", transport.shown());
            Failure::new(Fault::Unreachable, text)
        };
        let late = |_| lost(&format!("does not go on within {limit:?}"));
        let (_leave, mut answer) =
            tokio::time::timeout(limit, transport.open(SPECIFICATION)).await.map_err(late)??;
        let mut scan = Scan::default();
        let mut length = 0;
        while let Some(piece) = tokio::time::timeout(limit, answer.chunk())
            .await
            .map_err(late)?
            .map_err(|_| lost("broke off before the end"))?
        {
            length += piece.len();
            if length > LARGEST {
                return Ok(None);
            }
            scan.read(&piece);
            if let Some(before) = before
                && before.version.is_some()
                && scan.can.version == before.version
            {
                return Ok(Some(before.clone()));
            }
        }
        Ok(scan.end())
    }

    /// What the fields of answers say.
    async fn answers(&self) -> Result<Capabilities> {
        let mut fields = Vec::new();
        for kind in [Vdb::KIND, DSource::KIND] {
            for object in self.search(kind, &Filter::all(), Sort::Any, Some(1)).await? {
                if let Value::Object(object) = object {
                    fields.extend(object.into_iter().map(|(name, _)| name));
                }
            }
        }
        let has = |field: &str| fields.iter().any(|name| name == field);
        // By the releases that brought them: what came no later than a field that is seen is there too.
        let (containers, nfs_version) = (has("containerization_state"), has("nfs_version"));
        Ok(Capabilities {
            // With nothing to look at, publishing finds out.
            exported_data_directory: fields.is_empty() || has("exported_data_directory"),
            container_mode: containers,
            ownership_spec: nfs_version,
            empty_vdb: nfs_version,
            nfs_version,
            undo_refresh: containers,
            version: None,
        })
    }
}

/// Reads a specification as it comes.
#[derive(Default)]
struct Scan {
    /// The line that has not ended, and whether it is too long to be looked at.
    line: Vec<u8>,
    skip: bool,
    /// The keys that the present line stands below, with how far they are indented.
    above: Vec<(usize, String)>,
    vdb: bool,
    can: Capabilities,
}

impl Scan {
    fn read(&mut self, piece: &[u8]) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let ends = part.ends_with(b"\n");
            self.skip |= self.line.len() + part.len() > LONGEST_LINE;
            if !self.skip {
                self.line.extend_from_slice(part);
            }
            if ends {
                self.line_ends();
            }
        }
    }

    /// What was found; `None` if this was not the specification of a DCT.
    fn end(mut self) -> Option<Capabilities> {
        self.line_ends();
        self.vdb.then_some(self.can)
    }

    fn line_ends(&mut self) {
        let line = std::mem::take(&mut self.line);
        if !std::mem::take(&mut self.skip)
            && let Ok(line) = std::str::from_utf8(&line)
        {
            self.look(line);
        }
    }

    fn look(&mut self, line: &str) {
        let mut rest = line.trim_start_matches(' ');
        while let Some(item) = rest.strip_prefix("- ") {
            rest = item.trim_start_matches(' ');
        }
        let indent = line.len() - rest.len();
        let rest = rest.trim_end();
        let (key, value) = match rest.split_once(": ") {
            Some((key, value)) => (key, value),
            None => match rest.strip_suffix(':') {
                Some(key) => (key, ""),
                None => return,
            },
        };
        let key = key.trim_matches(['\'', '"']);
        if key.starts_with('#') || key.is_empty() {
            return;
        }
        while self.above.last().is_some_and(|(above, _)| *above >= indent) {
            self.above.pop();
        }
        self.found(key, value);
        self.above.push((indent, key.to_owned()));
    }

    fn found(&mut self, key: &str, value: &str) {
        let mut above = self.above.iter().map(|(_, key)| key.as_str());
        let can = &mut self.can;
        match (above.next(), above.next(), above.next()) {
            (Some("info"), None, None) if key == "version" => {
                can.version = Some(value.trim().trim_matches(['\'', '"']).to_owned());
            }
            (Some("paths"), None, None) => match key {
                "/vdbs/empty_vdb" => can.empty_vdb = true,
                "/vdbs/{vdbId}/undo_refresh" => can.undo_refresh = true,
                _ => {}
            },
            (Some("components"), Some("schemas"), None) => self.vdb |= key == "VDB",
            (Some("components"), Some("schemas"), Some(model)) => {
                let of_model = self.above.last().is_some_and(|(_, key)| key == "properties");
                match (model, key) {
                    _ if !of_model => {}
                    ("VDB", "exported_data_directory") => can.exported_data_directory = true,
                    ("VDB", "nfs_version") => can.nfs_version = true,
                    ("EnableVDBParameters", "container_mode") => can.container_mode = true,
                    ("EnableVDBParameters", "ownership_spec") => can.ownership_spec = true,
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "openapi: 3.0.0\ninfo:\n  title: x\n  version: '3.30.0'\n  license:\n    version: 9\npaths:\n  \
        /vdbs/empty_vdb:\n    post:\n      x: y\n  \"/vdbs/{vdbId}/undo_refresh\":\n    post: {}\ncomponents:\n  schemas:\n    \
        # VDB:\n    Other:\n      properties:\n        ownership_spec:\n          type: string\n    VDB:\n      allOf:\n      \
        - $ref: '#/x'\n      - type: object\n        properties:\n          exported_data_directory:\n            \
        description: |\n              container_mode: no\n              properties too\n            type: string\n    \
        EnableVDBParameters:\n      type: object\n      required: [x]\n      properties:\n        container_mode:\n          \
        type: boolean\n          properties_of: ownership_spec\n";

    fn scan(text: &str, piece: usize) -> Option<Capabilities> {
        let mut scan = Scan::default();
        text.as_bytes().chunks(piece).for_each(|piece| scan.read(piece));
        scan.end()
    }

    #[test]
    fn a_specification_is_read_the_same_in_pieces_of_any_size() {
        let expect = Capabilities {
            exported_data_directory: true,
            container_mode: true,
            empty_vdb: true,
            undo_refresh: true,
            version: Some("3.30.0".to_owned()),
            ..Capabilities::default()
        };
        for piece in [1, 2, 3, 7, 64, TEXT.len()] {
            assert_eq!(scan(TEXT, piece), Some(expect.clone()), "{piece}");
        }
        assert_eq!(scan(&TEXT.replace('\n', "\r\n"), 5), Some(expect));
    }

    #[test]
    fn what_is_no_specification_says_nothing() {
        fn check(text: &str) {
            assert_eq!(scan(text, 8), None, "{text}");
        }
        check("");
        check("<html>not: found</html>");
        check("{\"info\": {\"version\": \"3\"}}");
        check("components:\n  schemas:\n    Other:\n      type: object\n");
        check(&format!("components:\n  schemas:\n    VDB{}:\n", " ".repeat(LONGEST_LINE)));
    }

    #[test]
    fn what_is_there_and_what_is_not_is_said() {
        let can = Capabilities { container_mode: true, ..Capabilities::default() };
        assert_eq!(
            can.to_string(),
            "interface unknown; has container_mode; lacks exported_data_directory, ownership_spec, empty_vdb, nfs_version, undo_refresh"
        );
    }
}
