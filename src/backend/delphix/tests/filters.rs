//! No text that a user gives becomes a piece of a filter.

use offshoot_dct_sim::{Admin, Kind};
use proptest::prelude::*;

use super::*;

fn check(filter: Filter, expect: Result<&str, &str>) {
    match (filter.expression(), expect) {
        (Ok(text), Ok(expect)) => assert_eq!(text.unwrap_or_default(), expect),
        (Err(failure), Err(expect)) => {
            assert_eq!(failure.fault(), &Fault::Invalid);
            assert!(failure.to_string().contains(expect), "{failure}");
        }
        (got, _) => panic!("{got:?}"),
    }
}

#[test]
fn filters_are_written_as_the_grammar_has_them() {
    let eq = Filter::eq;
    check(Filter::all(), Ok(""));
    check(eq("name", "a b"), Ok("name EQ 'a b'"));
    check(eq("name", "Bob's"), Ok("name EQ \"Bob's\""));
    check(Filter::is("enabled", true).and(Filter::ne("id", "1")), Ok("enabled EQ true AND id NE '1'"));
    check(eq("a", "1").or(eq("b", "2")).and(eq("c", "3")), Ok("(a EQ '1' OR b EQ '2') AND c EQ '3'"));
    check(eq("a", "1").and(eq("b", "2")).or(eq("c", "3")), Ok("a EQ '1' AND b EQ '2' OR c EQ '3'"));
    check(Filter::all().and(eq("a", "1")), Ok("a EQ '1'"));
    check(Filter::all().or(eq("a", "1")), Ok(""));
    check(Filter::is_in("id", &["1", "2"]), Ok("id IN ['1', '2']"));
    check(Filter::tag("k", "v"), Ok("tags CONTAINS {key EQ 'k' AND value EQ 'v'}"));
    check(Filter::tag_key("k"), Ok("tags CONTAINS {key EQ 'k'}"));
    check(Filter::contains("vdb_ids", "v"), Ok("vdb_ids CONTAINS 'v'"));
    let at = "2026-01-01T00:00:00Z".parse().unwrap();
    check(
        Filter::since("timestamp", at).and(Filter::until("timestamp", at)),
        Ok("timestamp GE 2026-01-01T00:00:00Z AND timestamp LE 2026-01-01T00:00:00Z"),
    );
}

#[test]
fn what_the_grammar_cannot_express_is_refused_whatever_it_is_joined_with() {
    check(Filter::eq("name", "'\""), Err("name: `\\'\\\"` has both kinds of quotes"));
    check(Filter::eq("name", "a\\"), Err("a backslash"));
    check(Filter::eq("name", "a\0b"), Err("a control character"));
    check(Filter::all().or(Filter::eq("name", "\n")).and(Filter::eq("a", "b")), Err("a control character"));
    check(Filter::tag("k", "\\"), Err("k: "));
    check(Filter::is_in("id", &[""; 0]), Err("1 to 100 values, not 0"));
    check(Filter::is_in("id", &["x"; 101]), Err("1 to 100 values, not 101"));
    check(Filter::eq("a", &"x".repeat(50_000)), Err("longer than"));
    let many = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    let all = many.into_iter().fold(Filter::all(), |all, field| all.and(Filter::eq(field, "x")));
    check(all, Err("names 9 fields"));
}

proptest! {
    #[test]
    fn a_text_stays_between_its_quotes_or_is_refused(text in any::<String>()) {
        match Filter::eq("name", &text).expression() {
            Ok(expression) => {
                let literal = expression.unwrap().strip_prefix("name EQ ").unwrap();
                let quote = literal.chars().next().unwrap();
                prop_assert!(quote == '\'' || quote == '"');
                let inside = literal.strip_prefix(quote).unwrap().strip_suffix(quote).unwrap();
                prop_assert_eq!(inside, &text);
                prop_assert!(!inside.contains(quote) && !inside.contains('\\'));
            }
            Err(failure) => {
                prop_assert_eq!(failure.fault(), &Fault::Invalid);
                let both = text.contains('\'') && text.contains('"');
                prop_assert!(both || text.contains('\\') || text.chars().any(char::is_control));
            }
        }
    }
}

#[tokio::test]
async fn a_name_with_marks_in_it_finds_that_object_and_no_other() {
    let world = World::new().await;
    let dct = world.dct();
    let id = world.vdb(&dct, "one").await.id;
    world.vdb(&dct, "two").await;
    for name in ["x' OR name NE '", "\" OR name NE \"", "a] }) AND (", "Bob's ü データ", "nil", " "] {
        let name = name.to_owned();
        world.sim.admin(Admin::Rename { kind: Kind::Vdb, id: id.clone(), name: name.clone() }).unwrap();
        let found = dct.vdbs(Filter::eq("name", &name)).await.unwrap();
        assert_eq!(found.iter().map(|vdb| &vdb.id).collect::<Vec<_>>(), [&id], "{name}");
    }
    world.sim.clear_traffic();
    assert_eq!(dct.vdbs(Filter::eq("name", "'\"")).await.unwrap_err().fault(), &Fault::Invalid);
    assert_eq!(world.sim.traffic().log, [""; 0], "what is refused is not sent");
}

#[tokio::test]
async fn objects_are_found_by_their_tags() {
    let world = World::new().await;
    let dct = world.dct();
    world.vdb(&dct, "one").await;
    let two = world.vdb(&dct, "two").await;
    let by_tag = dct.vdbs(Filter::tag("offshoot-name", "two")).await.unwrap();
    assert_eq!(by_tag, [two]);
    assert_eq!(dct.vdbs(Filter::tag_key("offshoot-name")).await.unwrap().len(), 2);
    assert_eq!(dct.vdbs(Filter::tag("offshoot-name", "three")).await.unwrap(), []);
}
