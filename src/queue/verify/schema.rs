//! Whether a queue's table has what it needs, and nothing that stands in the way. Each gap comes with its statements.

use crate::error::Result;
use crate::guc;
use crate::host::relation;
use crate::queue::adopt;
use crate::queue::catalog::{self, Column, Index, Table, Trigger};
use crate::queue::check::Check;
use crate::queue::definition::Filling;
use crate::queue::gaps;
use crate::queue::registry::QueueRow;

/// What the catalog says of a queue's table.
struct Facts {
    table: Table,
    columns: Vec<Column>,
    indexes: Vec<Index>,
    triggers: Vec<Trigger>,
    checks: Vec<String>,
}

/// All checks of the table; none when it has just been dropped. Those that have to read all rows only when asked for.
pub fn checks(row: &QueueRow, reads_rows: bool) -> Result<Vec<Check>> {
    let name = relation::display_name(row.table);
    let filling = Filling { table: &name, number: row.number, max_bytes: guc::max_payload_bytes() };
    let Some(table) = catalog::table(row.table)? else {
        return Ok(Vec::new());
    };
    let facts = Facts {
        table,
        columns: catalog::columns(row.table)?,
        indexes: catalog::indexes(row.table)?,
        triggers: catalog::triggers(row.table)?,
        checks: catalog::checks(row.table)?,
    };
    let mut checks = vec![kind(&facts), columns(&facts, &filling), key(&facts, &name), defaults(&facts, &filling)];
    checks.extend(time_zones(&facts));
    if reads_rows {
        checks.push(constraints(row, &facts, &filling)?);
        checks.extend(status_words(row, &facts, &name)?);
    }
    checks.extend(indexes(&facts, &filling));
    checks.push(hindrances(&facts));
    checks.push(storage(&facts, &name));
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
    let wrong = gaps::wrong_columns(&facts.columns);
    if missing.is_empty() && wrong.is_empty() {
        return Check::well("columns", "all there");
    }
    let gone = missing.iter().map(|column| format!("no column {}", column.name));
    let odd = wrong.iter().map(|wrong| format!("column {} is of type {}", wrong.column.name, wrong.found));
    let detail: Vec<String> = gone.chain(odd).collect();
    let add = missing.iter().map(|column| filling.add_column(column) + ";");
    let change = wrong.iter().map(|wrong| {
        format!("Rename or change column {}: a queue needs {}.", wrong.column.name, wrong.column.definition)
    });
    let remedy: Vec<String> = add.chain(change).collect();
    Check::gap("columns", detail.join(", "), remedy.join(" "))
}

fn key(facts: &Facts, name: &str) -> Check {
    let faults = gaps::key_faults(&facts.columns, &facts.indexes);
    match faults.is_empty() {
        true => Check::well("key", "id is unique and has a default"),
        false => Check::gap(
            "key",
            faults.join(", "),
            format!("CREATE UNIQUE INDEX CONCURRENTLY ON {name} (id); and give id a default from a sequence."),
        ),
    }
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
    let missing = gaps::missing_checks(&facts.checks);
    let has_columns = gaps::missing_columns(&facts.columns).is_empty();
    let (mut addable, mut broken) = (Vec::new(), Vec::new());
    for check in missing {
        match relation::owner(row.table) {
            Some(owner) if has_columns && gaps::is_broken(owner, filling, check)? => broken.push(check.name),
            _ => addable.push(check),
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
    let ddl: Vec<String> = addable.iter().map(|check| filling.add_check(check) + ";").collect();
    Ok(Check::gap("constraints", format!("Missing: {}.{left_out}", names.join(", ")), ddl.join(" ")))
}

/// Only looked for where they are not kept out: the CHECK lets NULL pass.
fn status_words(row: &QueueRow, facts: &Facts, name: &str) -> Result<Option<Check>> {
    let is_checked = facts.checks.iter().any(|check| check == "qflow_status");
    let is_open = |column: &Column| column.name == "status" && (!is_checked || column.is_nullable);
    let Some(owner) = relation::owner(row.table).filter(|_| facts.columns.iter().any(is_open)) else {
        return Ok(None);
    };
    Ok(match gaps::unknown_words(owner, name)? {
        (0, _) => None,
        (count, words) => Some(Check::gap(
            "status words",
            format!("{count} rows have a status that no queue knows, and are left alone: {words}"),
            format!(
                "UPDATE {name} SET status = … \
                 WHERE (status IN ('pending', 'in_progress', 'completed', 'failed')) IS NOT TRUE;"
            ),
        )),
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

fn hindrances(facts: &Facts) -> Check {
    let found = gaps::hindering_indexes(&facts.indexes);
    if found.is_empty() {
        return Check::well("other indexes", "none mentions what claims and acks change");
    }
    let named: Vec<String> =
        found.iter().map(|(index, changed)| format!("{} mentions {changed}", index.name)).collect();
    let drop = |index: &Index| match &index.constraint {
        Some(constraint) => format!("Drop constraint {constraint}, on which {} stands.", index.name),
        None => format!("DROP INDEX CONCURRENTLY {};", index.name),
    };
    let remedy: Vec<String> = found.iter().map(|(index, _)| drop(index)).collect();
    Check::gap(
        "other indexes",
        format!(
            "{}: every claim and every ack has to write to all indexes for it, and leaves entries behind that only \
             vacuum removes; fetches do not use it",
            named.join(", ")
        ),
        remedy.join(" "),
    )
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

fn triggers(facts: &Facts, filling: &Filling) -> Check {
    let missing = gaps::missing_triggers(&facts.triggers);
    if missing.is_empty() {
        return Check::well("return triggers", "there, and always enabled");
    }
    let names: Vec<&str> = missing.iter().map(|trigger| trigger.name).collect();
    let exists = |name: &str| facts.triggers.iter().any(|found| found.name == name);
    let statements = missing.iter().flat_map(|trigger| match exists(trigger.name) {
        true => vec![filling.enable_trigger(trigger)],
        false => filling.create_trigger(trigger).to_vec(),
    });
    let remedy: Vec<String> = statements.map(|sql| sql + ";").collect();
    Check::gap("return triggers", format!("missing or not always enabled: {}", names.join(", ")), remedy.join(" "))
}

/// Whether jobs can be taken back as the table's owner, in a restricted operation.
fn upkeep(row: &QueueRow, facts: &Facts) -> Check {
    let (obstacles, remedies): (Vec<String>, Vec<String>) =
        gaps::obstacles(row.table, &facts.triggers).into_iter().unzip();
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
