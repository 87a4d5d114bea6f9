//! Whether a queue's table has what it needs, and nothing that stands in the way. Each gap comes with its statements.

use crate::error::Result;
use crate::guc;
use crate::host::relation;
use crate::queue::adopt;
use crate::queue::catalog::{Column, Facts, Index};
use crate::queue::check::Check;
use crate::queue::definition::Filling;
use crate::queue::registry::QueueRow;
use crate::queue::{gaps, path, survey};

/// How much is looked at.
#[derive(Clone, Copy)]
pub enum Depth {
    /// The catalog only.
    Catalog,
    /// All rows too.
    Rows {
        /// Whether what stands in them may be named: the caller could read it himself.
        names: bool,
    },
}

/// All checks of the table; none when it has just been dropped.
pub fn checks(row: &QueueRow, depth: Depth) -> Result<Vec<Check>> {
    let name = relation::display_name(row.table);
    let filling = Filling { table: &name, number: row.number, max_bytes: guc::max_payload_bytes() };
    let Some(facts) = Facts::of(row.table)? else {
        return Ok(Vec::new());
    };
    let mut checks = vec![kind(&facts), columns(&facts, &filling), key(&facts, &name), defaults(&facts, &filling)];
    checks.extend(time_zones(&facts));
    if let Depth::Rows { names } = depth {
        checks.push(constraints(row, &facts, &filling)?);
        checks.extend(status_words(row, &facts, &name, names)?);
    }
    checks.extend(other_constraints(&facts));
    checks.extend(indexes(&facts, &filling));
    checks.push(hindrances(&facts));
    checks.push(storage(&facts, &name));
    checks.push(way(&facts));
    checks.push(triggers(&facts, &filling));
    checks.push(upkeep(row, &facts));
    checks.extend(row_security(&facts));
    Ok(checks)
}

fn kind(facts: &Facts) -> Check {
    match adopt::refusal(&facts.table) {
        None => Check::well("table", "an ordinary table"),
        Some((why, remedy)) => Check::gap("table", why, remedy),
    }
}

fn columns(facts: &Facts, filling: &Filling) -> Check {
    let missing = gaps::missing_columns(&facts.columns);
    let wrong = gaps::wrong_columns(&facts.columns, filling.table);
    if missing.is_empty() && wrong.is_empty() {
        return Check::well("columns", "all there");
    }
    let gone = missing.iter().map(|column| format!("no column {}", column.name));
    let odd = wrong.iter().map(|wrong| format!("column {} {}", wrong.column.name, wrong.fault));
    let detail: Vec<String> = gone.chain(odd).collect();
    let bring_back = missing.iter().map(|column| match column.is_required {
        // Empty, or with its default, it would say something else of every row than what was there.
        true => {
            format!("Bring back column {} with its values, from a backup or under the name it has now.", column.name)
        }
        false => filling.add_column(column) + ";",
    });
    let remedy: Vec<String> = bring_back.chain(wrong.iter().map(|wrong| wrong.remedy.clone())).collect();
    Check::gap("columns", detail.join(", "), remedy.join(" "))
}

fn key(facts: &Facts, name: &str) -> Check {
    let faults = gaps::key_faults(&facts.columns, &facts.indexes, name);
    if faults.is_empty() {
        return Check::well("key", "id is unique, never NULL, and has a default");
    }
    let detail: Vec<&str> = faults.iter().map(|key| key.fault).collect();
    let remedy: Vec<&str> = faults.iter().map(|key| key.remedy.as_str()).collect();
    Check::gap("key", detail.join(", "), remedy.join(" "))
}

fn defaults(facts: &Facts, filling: &Filling) -> Check {
    let gaps = gaps::defaults(&facts.columns, filling, &guc::naive_timezone());
    if gaps.is_empty() {
        return Check::well("defaults", "all there");
    }
    let found = |gap: &gaps::DefaultGap| match &gap.found {
        Some(default) => format!("{} is {default}", gap.column),
        None => format!("{} has none", gap.column),
    };
    let detail: Vec<String> = gaps.iter().map(found).collect();
    let remedy: Vec<String> = gaps.iter().map(|gap| format!("{};", gap.ddl)).collect();
    Check::gap("defaults", detail.join(", "), remedy.join(" "))
}

fn time_zones(facts: &Facts) -> Option<Check> {
    let naive = gaps::naive_columns(&facts.columns);
    let default = |name: &str| {
        let column = facts.columns.iter().find(|column| column.name == name);
        column.and_then(|column| column.default.clone()).unwrap_or_else(|| "none".to_owned())
    };
    let listed: Vec<String> = naive.iter().map(|name| format!("{name} (default {})", default(name))).collect();
    let zone = guc::naive_timezone();
    (!naive.is_empty()).then(|| {
        Check::well("time zones", format!("read and written in {zone}, since they have no zone: {}", listed.join(", ")))
    })
}

fn constraints(row: &QueueRow, facts: &Facts, filling: &Filling) -> Result<Check> {
    let missing = gaps::missing_constraints(&facts.constraints);
    let has_columns = gaps::missing_columns(&facts.columns).is_empty();
    let is_broken = match relation::owner(row.table) {
        Some(owner) if has_columns => survey::broken(owner, filling, &missing)?,
        _ => vec![false; missing.len()],
    };
    let (mut addable, mut broken) = (Vec::new(), Vec::new());
    for (check, is_broken) in missing.into_iter().zip(is_broken) {
        match is_broken {
            true => broken.push(check.name),
            false => addable.push(check),
        }
    }
    let left_out = match broken.is_empty() {
        true => String::new(),
        false => format!(" Left out, because there are rows that they would refuse: {}.", broken.join(", ")),
    };
    if addable.is_empty() {
        return Ok(Check::well("constraints", format!("All that the rows allow.{left_out}")));
    }
    let names: Vec<&str> = addable.iter().map(|check| check.name).collect();
    let ddl: Vec<String> = addable.iter().map(|check| filling.add_constraint(check) + ";").collect();
    Ok(Check::gap("constraints", format!("Missing: {}.{left_out}", names.join(", ")), ddl.join(" ")))
}

/// Only looked for where they are not kept out: the CHECK lets NULL pass.
fn status_words(row: &QueueRow, facts: &Facts, name: &str, names: bool) -> Result<Option<Check>> {
    let is_checked = facts.constraints.iter().any(|check| check.name == "qflow_status");
    let is_open = |column: &Column| column.name == "status" && (!is_checked || !column.is_not_null);
    let Some(owner) = relation::owner(row.table).filter(|_| facts.columns.iter().any(is_open)) else {
        return Ok(None);
    };
    let words = survey::unknown_words(owner, name)?;
    let named = if names { format!(": {}", words.named) } else { String::new() };
    Ok((words.rows > 0).then(|| {
        Check::gap(
            "status words",
            format!("{} rows have a status that no queue knows, and are left alone{named}", words.rows),
            format!(
                "Give them one that it knows: UPDATE {name} SET status = ... \
                 WHERE (status IN ('pending', 'in_progress', 'completed', 'failed')) IS NOT TRUE;"
            ),
        )
    }))
}

/// Not wrong in itself: only its owner knows what it means.
fn other_constraints(facts: &Facts) -> Option<Check> {
    let found = gaps::binding_constraints(&facts.constraints);
    let named: Vec<String> =
        found.iter().map(|(check, changed)| format!("{} mentions {changed}", check.name)).collect();
    (!found.is_empty()).then(|| {
        Check::well("other constraints", format!("{}: claims and settles that break one fail", named.join(", ")))
    })
}

fn indexes(facts: &Facts, filling: &Filling) -> Vec<Check> {
    let missing: Vec<&str> = gaps::missing_indexes(&facts.indexes).iter().map(|index| index.name).collect();
    let check = |index: &crate::queue::definition::Index| match missing.contains(&index.name) {
        false => Check::well(index.name, "there"),
        true => Check::gap(
            index.name,
            "missing or invalid: fetches read the whole table",
            filling.fill(&format!("CREATE INDEX CONCURRENTLY {};", index.definition)),
        ),
    };
    crate::queue::definition::INDEXES.iter().map(check).collect()
}

/// An index that keeps rows unique is there for more than speed: what it costs is said, and that is all.
fn hindrances(facts: &Facts) -> Check {
    let found = gaps::hindering_indexes(&facts.indexes);
    if found.is_empty() {
        return Check::well("other indexes", "none mentions what claims and acks change");
    }
    let name = |(index, changed): &(&Index, String)| match gaps::is_guarantee(index) {
        true => format!("{} mentions {changed} and keeps rows from being there twice", index.name),
        false => format!("{} mentions {changed}", index.name),
    };
    let named: Vec<String> = found.iter().map(name).collect();
    let detail = format!(
        "{}: every claim and every ack has to write to all indexes for it, and leaves entries behind that only vacuum \
         removes; fetches do not use it",
        named.join(", ")
    );
    let needless = found.iter().filter(|(index, _)| !gaps::is_guarantee(index));
    let remedy: Vec<String> = needless.map(|(index, _)| format!("DROP INDEX CONCURRENTLY {};", index.name)).collect();
    match remedy.is_empty() {
        true => Check::well("other indexes", detail),
        false => Check::gap("other indexes", detail, remedy.join(" ")),
    }
}

fn storage(facts: &Facts, name: &str) -> Check {
    let unset = gaps::unset_storage(&facts.table.options);
    match unset.is_empty() {
        true => Check::well("storage", facts.table.options.join(", ")),
        false => Check::gap(
            "storage",
            "no room for the versions of a row on its page, or vacuum comes late",
            gaps::set_storage(name, &unset) + ";",
        ),
    }
}

/// Not wrong in itself: what the executor is needed for is the owner's own.
fn way(facts: &Facts) -> Check {
    match path::of(facts) {
        Ok(_) => Check::well("access", "direct"),
        Err(why) => Check::well("access", format!("through the executor, slower: {why}")),
    }
}

fn triggers(facts: &Facts, filling: &Filling) -> Check {
    let found = gaps::trigger_gaps(&facts.triggers, filling);
    if found.is_empty() {
        return Check::well("return triggers", "there, and always enabled");
    }
    let detail: Vec<String> = found.iter().map(|gap| format!("{} {}", gap.trigger.name, gap.fault)).collect();
    let remedy: Vec<String> = found.iter().flat_map(|gap| &gap.ddl).map(|sql| format!("{sql};")).collect();
    Check::gap("return triggers", detail.join(", "), remedy.join(" "))
}

/// Whether jobs can be taken back as the table's owner, in a restricted operation.
fn upkeep(row: &QueueRow, facts: &Facts) -> Check {
    let (obstacles, remedies): (Vec<String>, Vec<String>) =
        gaps::obstacles(row.table, &facts.table.owner, &facts.triggers).into_iter().unzip();
    match obstacles.is_empty() {
        true => Check::well("upkeep", "expired jobs are taken back as the table's owner"),
        false => Check::gap(
            "upkeep",
            format!("expired jobs are taken back by consumers' fetches only, as themselves: {}", obstacles.join(", ")),
            remedies.join(" "),
        ),
    }
}

fn row_security(facts: &Facts) -> Option<Check> {
    let detail = match facts.table.row_security {
        (false, _) => return None,
        (true, false) => "enabled: consumers under a policy see their rows only, and their fetches start further back",
        (true, true) => {
            "enabled and forced: consumers and the owner see their rows only, and their fetches start further back; \
             jobs are taken back regardless"
        }
    };
    Some(Check::well("row security", detail))
}
