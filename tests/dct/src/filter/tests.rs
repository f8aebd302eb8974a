use super::*;
use serde_json::json;

fn filter(text: &str) -> Result<Filter, String> {
    let known = |inside: Option<&str>, name: &str| match inside {
        None => {
            name.len() == 1 || ["name", "size", "enabled", "tags", "made", "list", "gone"].contains(&name)
        }
        Some(field) => field == "tags" && ["key", "value"].contains(&name),
    };
    Filter::parse(text, &known)
}

#[test]
fn an_expression_chooses_the_objects_it_describes() {
    fn check(text: &str, expect: bool) {
        let object = json!({
            "name": "dlpx-1", "size": 12, "enabled": true, "list": ["a", "b"], "made": "2026-01-02T00:00:00.000Z",
            "tags": [{"key": "pvc", "value": "ns/one"}, {"key": "who", "value": "ns/two"}],
        });
        let object = object.as_object().unwrap();
        assert_eq!(filter(text).map(|f| f.matches(object)), Ok(expect), "{text}");
    }
    check("name EQ 'dlpx-1'", true);
    check("name eq \"dlpx-1\"", true);
    check("name EQ 'DLPX-1'", false);
    check("name NE 'dlpx-1'", false);
    check("name CONTAINS 'px'", true);
    check("list CONTAINS 'b'", true);
    check("list EQ ['a', 'b']", true);
    check("size GT 11.5 AND size LE 12", true);
    check("size LT 12", false);
    check("enabled EQ true", true);
    check("enabled EQ nil", false);
    check("gone EQ nil", true);
    check("gone NE 'x'", true);
    check("gone GT 'x'", false);
    check("name IN ['a', 'dlpx-1']", true);
    check("name IN []", false);
    check("made GE 2026-01-02T00:00:00Z", true);
    check("made GT 2026-01-02T00:00:00Z", false);
    check("made LT '2026-01-02T01:00:00+00:00'", true);
    check("made LT 2026-01-02T01:00:00+02:00", false);
    check("tags CONTAINS {key EQ 'pvc' AND value EQ 'ns/one'}", true);
    check("tags CONTAINS {key EQ 'pvc' AND value EQ 'ns/two'}", false);
    check("NOT name EQ 'x' AND enabled EQ false", false);
    check("NOT (name EQ 'x' AND enabled EQ false)", true);
    check("name EQ 'x' AND size EQ 0 OR enabled EQ true", true);
    check("name EQ 'x' AND (size EQ 0 OR enabled EQ true)", false);
    check("SEARCH 'NS/TWO'", true);
    check("search 'elsewhere'", false);
}

#[test]
fn an_expression_that_is_not_published_grammar_is_refused_with_its_place() {
    fn check(text: &str, expect: &str) {
        let got = filter(text).unwrap_err();
        assert!(got.contains(expect), "{text}: {got}");
    }
    check("name EQ", "ends where a literal belongs");
    check("name EQ dlpx", "put texts in quotes");
    check("name EQ 'open", "begins at 8 has no end");
    check("name EQ 'it\\'s'", "backslash");
    check("name = 'x'", "'=' at 5");
    check("name LIKE 'x'", "\"LIKE\" at 5 is not an operator");
    check("colour EQ 'x'", "\"colour\" at 0 is not a field");
    check("key EQ 'x'", "\"key\" at 0 is not a field");
    check("tags CONTAINS {name EQ 'x'}", "\"name\" at 15 is not a field");
    check("tags CONTAINS {key EQ 'x'", "'}' is missing");
    check("(name EQ 'x'", "')' is missing");
    check("name EQ 'x' name EQ 'y'", "is too much");
    check("name CONTAINS 'it''s'", "is too much");
    check("name IN 'x'", "wants a list");
    check("enabled GT true", "wants a number");
    check("name GT nil", "wants a number");
    check("size EQ 12abc", "has no meaning");
    check("", "ends where a field belongs");
    check(&format!("name IN [{}]", vec!["'x'"; 101].join(",")), "more than 100");
    check(&"(".repeat(5000), "nests deeper");
    let nine: Vec<String> = "abcdefghi".chars().map(|c| format!("{c} EQ 1")).collect();
    check(&nine.join(" AND "), "9 different identifiers");
}
