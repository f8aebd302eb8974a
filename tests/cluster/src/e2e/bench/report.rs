//! The result of a measurement, for people and for programs.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Shot;

/// The median of one kind with so many pods.
struct Row<'a> {
    kind: &'a str,
    pods: usize,
    running: f64,
    deleted: f64,
    driver_mib: Option<f64>,
    driver_ms: Option<f64>,
    sidecars_mib: Option<f64>,
    sidecars_ms: Option<f64>,
    requests: Option<f64>,
}

/// Prints medians, one line for each kind and number of pods, or as JSON.
#[allow(clippy::print_stdout, reason = "this is what the program is for")]
pub(super) fn print(shots: &[Shot], as_json: bool) {
    let rows = rows(shots);
    if as_json {
        println!("{}", json!({"rows": rows.iter().map(shown).collect::<Vec<_>>()}));
        return;
    }
    println!(
        "| pods | volumes | all run | all gone | driver: memory | driver: processor, each | sidecars: memory | processor, each | API requests, each |"
    );
    println!("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for row in rows {
        let or_none =
            |value: Option<f64>, unit: &str| value.map_or(String::new(), |value| format!("{value:.1}{unit}"));
        println!(
            "| {} | {} | {:.1} s | {:.1} s | {} | {} | {} | {} | {} |",
            row.pods,
            row.kind,
            row.running,
            row.deleted,
            or_none(row.driver_mib, " MiB"),
            or_none(row.driver_ms, " ms"),
            or_none(row.sidecars_mib, " MiB"),
            or_none(row.sidecars_ms, " ms"),
            or_none(row.requests, ""),
        );
    }
}

fn rows(shots: &[Shot]) -> Vec<Row<'_>> {
    let mut groups: Vec<(usize, &str)> = shots.iter().map(|shot| (shot.pods, shot.kind.as_str())).collect();
    let mut seen = BTreeMap::new();
    groups.retain(|group| seen.insert(*group, ()).is_none());
    groups
        .into_iter()
        .map(|(pods, kind)| {
            let same: Vec<_> =
                shots.iter().filter(|shot| (shot.pods, shot.kind.as_str()) == (pods, kind)).collect();
            let of = |value: &dyn Fn(&Shot) -> Option<f64>| {
                median(same.iter().filter_map(|shot| value(shot)).collect())
            };
            #[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
            let (mib, each) =
                (|bytes: u64| bytes as f64 / f64::from(1 << 20), |ms: u64| ms as f64 / pods as f64);
            Row {
                kind,
                pods,
                running: of(&|shot| Some(shot.running)).unwrap_or_default(),
                deleted: of(&|shot| Some(shot.deleted)).unwrap_or_default(),
                driver_mib: of(&|shot| shot.cost.map(|cost| mib(cost.driver.memory))),
                driver_ms: of(&|shot| shot.cost.map(|cost| each(cost.driver.processor))),
                sidecars_mib: of(&|shot| shot.cost.map(|cost| mib(cost.sidecars.memory))),
                sidecars_ms: of(&|shot| shot.cost.map(|cost| each(cost.sidecars.processor))),
                requests: of(&|shot| shot.cost.map(|cost| cost.requests)),
            }
        })
        .collect()
}

fn shown(row: &Row<'_>) -> Value {
    json!({
        "pods": row.pods, "kind": row.kind, "running_seconds": row.running, "deleted_seconds": row.deleted,
        "driver_mib": row.driver_mib, "driver_processor_ms_each": row.driver_ms, "sidecars_mib": row.sidecars_mib,
        "sidecars_processor_ms_each": row.sidecars_ms, "requests_each": row.requests,
    })
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_lies_in_the_middle() {
        fn check(values: &[f64], expect: Option<f64>) {
            assert_eq!(median(values.to_vec()), expect);
        }
        check(&[], None);
        check(&[3.0], Some(3.0));
        check(&[9.0, 1.0, 2.0], Some(2.0));
        check(&[4.0, 1.0, 2.0, 9.0], Some(3.0));
    }

    #[test]
    fn rounds_of_one_kind_become_one_row_in_the_order_of_the_first() {
        let shot =
            |kind: &str, pods, running| Shot { kind: kind.into(), pods, running, deleted: 1.0, cost: None };
        let shots = [shot("b", 1, 2.0), shot("a", 1, 5.0), shot("b", 1, 4.0), shot("b", 20, 9.0)];
        let found: Vec<_> =
            rows(&shots).iter().map(|row| (row.pods, row.kind.to_owned(), row.running)).collect();
        assert_eq!(found, [(1, "b".into(), 3.0), (1, "a".into(), 5.0), (20, "b".into(), 9.0)]);
    }
}
