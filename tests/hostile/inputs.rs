//! Every field of a message, each with every bad value that fits its type.
//!
//! The fields come from the compiled descriptor, so that a field that is added to `proto/` is tried without anybody
//! thinking of it. One field is changed at a time; the rest stays as in a good request.

#![allow(unreachable_pub, reason = "a module of several test binaries")]

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, ReflectMessage as _, Value};

use super::world::{LINK, POOL, VICTIM};

/// One change of a good request.
pub struct Case {
    /// The field as messages should name it, such as `volume_capabilities[0].mount.fs_type`.
    pub field: String,
    pub input: Input,
    pub message: DynamicMessage,
}

/// What the field was changed to.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Not set.
    Missing,
    /// A message without fields, or an empty list or map.
    Hollow,
    /// A very long list or a map with very many keys.
    Many,
    /// A text, under a short name.
    Text(&'static str, String),
    /// A text as the key of a map.
    Key(&'static str, String),
    /// A number of a size, count or enum.
    Number(i128),
    /// A number that an enum does not know.
    Unknown(i32),
    Flag(bool),
}

/// Texts that other drivers stumbled over. `was` is what a good request has there.
fn texts(was: &str) -> Vec<(&'static str, String)> {
    let fixed = [
        ("empty", ""),
        ("blank", " "),
        ("NUL", "a\0b"),
        ("newline", "a\nb"),
        ("return", "a\rb"),
        ("escape", "a\u{1b}[31mb"),
        ("delete", "a\u{7f}b"),
        ("C1 control", "a\u{85}b"),
        ("dot", "."),
        ("dots", ".."),
        ("traversal", "../../etc/passwd"),
        ("rooted traversal", "/kubelet/../../etc/passwd"),
        ("encoded dots", "%2e%2e"),
        ("encoded traversal", "%2e%2e%2f%2e%2e%2fetc%2fpasswd"),
        ("backslashes", "..\\..\\etc\\passwd"),
        ("absolute", "/etc/passwd"),
        ("below a file", "/etc/passwd/x"),
        ("root", "/"),
        ("dash", "-rf"),
        ("long option", "--help"),
        ("option", "-o exec"),
        ("mount options", "x,suid,dev"),
        ("mount source", "x,source=/"),
        ("shell", "$(touch /victim/x);`id`|true&"),
        ("format", "%s%n{0}{}"),
        ("cyrillic", "рооl-а"),
        ("fullwidth", "ｐｏｏｌ"),
        ("fullwidth dots", "．．／．．／etc"),
        ("division slash", "..∕..∕etc"),
        ("right to left", "a\u{202e}b"),
        ("invisible", "a\u{200b}b\u{feff}"),
        ("combining", "e\u{301}\u{301}\u{301}"),
        ("null", "null"),
        ("json", "{\"a\":[1]}"),
        ("negative", "-1"),
        ("overflow", "18446744073709551616"),
        ("digits", "99999999999999999999999999999999999999999"),
        ("exponent", "1e400"),
        ("quantity", "8Ei"),
        ("victim", VICTIM),
        ("in the victim", "/victim/new"),
        ("link", LINK),
        ("behind the link", "/kubelet/link/new"),
        ("link to itself", "/proc/self/root/etc"),
        ("device", "/dev/null"),
        ("pool", POOL),
        ("in the pool", "/pool/volumes"),
        ("new in the pool", "/pool/volumes/new"),
        ("pool marker", "/pool/offshoot-pool.json"),
        ("state", "/state"),
    ];
    let mut all: Vec<_> = fixed.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
    all.push(("10 kB", "x".repeat(10_240)));
    all.push(("10 kB of components", "/x".repeat(5_120)));
    all.push(("129 bytes", "x".repeat(129)));
    all.push(("128 bytes of two", "é".repeat(64)));
    all.push(("long component", format!("/kubelet/{}", "x".repeat(256))));
    if !was.is_empty() {
        all.push(("and NUL", format!("{was}\0")));
        all.push(("and newline", format!("{was}\n")));
        all.push(("and blank", format!("{was} ")));
        all.push(("and traversal", format!("{was}/../../etc")));
        all.push(("and option", format!("{was},suid")));
        all.push(("in capitals", was.to_uppercase()));
        all.push((
            "look-alike",
            was.replace('a', "а").replace('e', "е").replace('0', "О").replace('/', "／"),
        ));
        all.push(("cut", was[..was.len() - 1].to_owned()));
        all.push(("doubled", format!("{was}{was}")));
    }
    all.retain(|(_, text)| text != was);
    all
}

/// All cases of a message.
pub fn cases(good: &DynamicMessage) -> Vec<Case> {
    let mut cases = Vec::new();
    for field in good.descriptor().fields() {
        let start = cases.len();
        let with = |input, value: Value| {
            let mut message = good.clone();
            message.set_field(&field, value);
            Case { field: field.name().to_owned(), input, message }
        };
        let mut missing = good.clone();
        missing.clear_field(&field);
        if good.has_field(&field) {
            cases.push(Case { field: field.name().to_owned(), input: Input::Missing, message: missing });
        }
        if field.is_map() {
            maps(good, &field, &mut cases);
        } else if field.is_list() {
            lists(good, &field, &mut cases);
        } else {
            for (path, input, value) in values(&field.kind(), &good.get_field(&field)) {
                let mut case = with(input, value);
                case.field += &path;
                cases.push(case);
            }
        }
        assert!(cases.len() > start, "{}: no case", field.full_name());
    }
    cases
}

/// The values that a single field can be changed to, with the path inside it.
fn values(kind: &Kind, was: &Value) -> Vec<(String, Input, Value)> {
    let at = |input: Input, value: Value| (String::new(), input, value);
    match kind {
        Kind::Message(descriptor) => {
            let inner = match was {
                Value::Message(inner) => inner.clone(),
                _ => DynamicMessage::new(descriptor.clone()),
            };
            let hollow = Value::Message(DynamicMessage::new(descriptor.clone()));
            let mut all = vec![at(Input::Hollow, hollow)];
            for case in cases_of(&inner) {
                all.push((format!(".{}", case.field), case.input, Value::Message(case.message)));
            }
            all
        }
        Kind::String => texts(was.as_str().unwrap_or_default())
            .into_iter()
            .map(|(name, text)| at(Input::Text(name, text.clone()), Value::String(text)))
            .collect(),
        Kind::Enum(known) => {
            let strangers = [-1, 99, i32::MAX, i32::MIN];
            let numbers = known.values().map(|value| value.number());
            let mut all: Vec<_> =
                numbers.map(|n| at(Input::Number(n.into()), Value::EnumNumber(n))).collect();
            all.extend(strangers.map(|n| at(Input::Unknown(n), Value::EnumNumber(n))));
            all
        }
        Kind::Bool => [true, false].map(|flag| at(Input::Flag(flag), Value::Bool(flag))).into(),
        Kind::Int32 => [i32::MIN, -1, 0, 1, 2, i32::MAX - 1, i32::MAX]
            .map(|n| at(Input::Number(n.into()), Value::I32(n)))
            .into(),
        Kind::Int64 => {
            let most = i64::MAX;
            let sizes = [i64::MIN, i64::MIN + 1, -1, 0, 1, 511, 4097, 1 << 20, 2 << 30, 1 << 45, 1 << 60];
            let all = sizes.into_iter().chain([(1 << 62) + 1, most - 4095, most - 1, most]);
            all.map(|n| at(Input::Number(n.into()), Value::I64(n))).collect()
        }
        other => panic!("{other:?} is a new type in requests; say what is bad for it"),
    }
}

/// The cases of a message inside a message; one without fields has none.
fn cases_of(inner: &DynamicMessage) -> Vec<Case> {
    if inner.descriptor().fields().len() == 0 { Vec::new() } else { cases(inner) }
}

fn lists(good: &DynamicMessage, field: &FieldDescriptor, cases: &mut Vec<Case>) {
    let was = good.get_field(field).as_list().map(<[Value]>::to_vec).unwrap_or_default();
    let first = was.first().cloned().unwrap_or_else(|| Value::default_value(&field.kind()));
    let mut push = |path: String, input: Input, list: Vec<Value>| {
        let mut message = good.clone();
        message.set_field(field, Value::List(list));
        cases.push(Case { field: format!("{}{path}", field.name()), input, message });
    };
    push(String::new(), Input::Many, vec![first.clone(); 5_000]);
    push(String::new(), Input::Many, vec![first.clone(), first.clone()]);
    for (path, input, value) in values(&field.kind(), &first) {
        let mut longer = was.clone();
        longer.push(value.clone());
        if was.len() > 1 || path.is_empty() {
            push(format!("[{}]{path}", was.len()), input.clone(), longer);
        }
        let mut changed = was.clone();
        changed.splice(..changed.len().min(1), [value]);
        push(format!("[0]{path}"), input, changed);
    }
}

fn maps(good: &DynamicMessage, field: &FieldDescriptor, cases: &mut Vec<Case>) {
    let was = good.get_field(field).as_map().cloned().unwrap_or_default();
    let mut push = |path: String, input: Input, map| {
        let mut message = good.clone();
        message.set_field(field, Value::Map(map));
        cases.push(Case { field: format!("{}{path}", field.name()), input, message });
    };
    let text = |text: &str| Value::String(text.to_owned());
    for key in was.keys() {
        let mut less = was.clone();
        less.remove(key);
        push(format!(".{}", key.as_str().unwrap()), Input::Missing, less);
    }
    // Nothing of these is read, and one request in a hundred is enough to see that.
    let few = matches!(field.name(), "secrets" | "publish_context");
    let texts = |was: &str| {
        let mut texts = texts(was);
        texts.retain(|(name, _)| !few || ["empty", "NUL", "traversal", "10 kB"].contains(name));
        texts
    };
    for (name, key) in texts("") {
        let mut more = was.clone();
        more.insert(MapKey::String(key.clone()), text("x"));
        push(String::new(), Input::Key(name, key), more);
    }
    let many = |n: usize| (0..n).map(|n| (MapKey::String(format!("key-{n}")), text("value"))).collect();
    push(String::new(), Input::Many, many(5_000));
    for (key, value) in &was {
        for (name, bad) in texts(value.as_str().unwrap()) {
            let mut other = was.clone();
            other.insert(key.clone(), text(&bad));
            push(format!(".{}", key.as_str().unwrap()), Input::Text(name, bad), other);
        }
    }
}
