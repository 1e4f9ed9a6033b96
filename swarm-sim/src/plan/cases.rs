//! Cases: a plan with some of its values changed.

use toml::{Table, Value};

use super::Plan;

/// A plan as one case of it says.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is called.
    pub name: String,
    /// The plan, changed.
    pub plan: Plan,
    /// The case without us, of the same scene.
    pub against: Option<String>,
}

/// A plan that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Not TOML, or not a plan.
    #[error("the plan cannot be read: {0}")]
    Toml(#[from] toml::de::Error),
    /// A case changes something that is not there.
    #[error("`{0}` is not in the plan: write the path of a value, as swarm.main.group.seed.up")]
    NoSuchValue(String),
    /// A change is not `path=value`.
    #[error("`{0}` is no change: write path=value")]
    NoChange(String),
    /// Something is impossible.
    #[error("{0}")]
    Impossible(String),
}

/// Reads a plan and gives its cases, each with these further changes (`path=value`) made. Without cases in the file, the
/// plan as it is is the only one.
///
/// # Errors
/// It cannot be read, changes what is not there, or asks for the impossible.
pub fn load(text: &str, changes: &[String]) -> Result<Vec<Case>, PlanError> {
    let mut root: Table = text.parse()?;
    let cases = match root.remove("case") {
        Some(Value::Array(cases)) => cases,
        Some(_) | None => vec![Value::Table(Table::new())],
    };
    cases
        .iter()
        .map(|case| {
            let name = case.get("name").and_then(Value::as_str);
            let mut plan = Value::Table(root.clone());
            if let Some(Value::Table(set)) = case.get("set") {
                for (path, value) in set {
                    change(&mut plan, path, value.clone())?;
                }
            }
            for written in changes {
                let (path, value) = written
                    .split_once('=')
                    .ok_or_else(|| PlanError::NoChange(written.clone()))?;
                let parsed = format!("value = {value}").parse::<Table>();
                let value = parsed
                    .ok()
                    .and_then(|mut table| table.remove("value"))
                    .unwrap_or_else(|| Value::String(value.into()));
                change(&mut plan, path.trim(), value)?;
            }
            let plan: Plan = plan.try_into()?;
            check(&plan)?;
            let own = case.get("against").and_then(Value::as_str);
            let against = own.map(str::to_owned).or_else(|| plan.against.clone());
            let helped = plan.repeater.as_ref().is_some_and(|r| r.count > 0);
            Ok(Case {
                against: against.filter(|_| helped),
                name: name.unwrap_or("all").into(),
                plan,
            })
        })
        .collect()
}

/// Sets the value at a dotted path; an entry of a list is named by its `name`.
fn change(plan: &mut Value, path: &str, value: Value) -> Result<(), PlanError> {
    let missing = || PlanError::NoSuchValue(path.into());
    let mut at = plan;
    let (parents, last) = path.rsplit_once('.').unwrap_or(("", path));
    for part in parents.split('.').filter(|part| !part.is_empty()) {
        at = match at {
            Value::Table(table) => table.get_mut(part),
            Value::Array(list) => list
                .iter_mut()
                .find(|entry| entry.get("name").and_then(Value::as_str) == Some(part)),
            Value::String(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_) => None,
        }
        .ok_or_else(missing)?;
    }
    // A key that no plan has is found out when the plan is read.
    at.as_table_mut()
        .ok_or_else(missing)?
        .insert(last.into(), value);
    Ok(())
}

fn check(plan: &Plan) -> Result<(), PlanError> {
    let fail = |text: String| Err(PlanError::Impossible(text));
    for swarm in &plan.swarm {
        let name = &swarm.name;
        let pieces = swarm.size.div_ceil(swarm.piece.max(1));
        if swarm.piece == 0 || swarm.size == 0 || pieces >= 1 << 20 {
            return fail(format!("{name}: 1 to 1,048,575 pieces of at least a byte"));
        }
        let blocks = swarm.piece / swarm.block.max(1);
        if swarm.block % (16 << 10) != 0 || blocks == 0 || swarm.piece % swarm.block != 0 {
            return fail(format!(
                "{name}: a block is a multiple of 16 KiB, and a piece a multiple of a block"
            ));
        }
        if swarm.piece > 64 << 20 {
            return fail(format!("{name}: pieces are 64 MiB at most"));
        }
        for group in &swarm.group {
            let gives = matches!(
                group.kind,
                super::Kind::Seed | super::Kind::Crowd | super::Kind::Leecher
            );
            if gives && group.up == 0 {
                return fail(format!(
                    "{name}, {}: who gives has a line; make it a free-rider",
                    group.name
                ));
            }
        }
    }
    if plan.repeater.as_ref().is_some_and(|r| r.up == 0) {
        return fail("repeater: it has a line".into());
    }
    super::slaves::check(plan).map_or(Ok(()), fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = r#"
        name = "x"
        about = "y"
        seconds = 10
        [[swarm]]
        name = "main"
        size = "1 MiB"
        piece = "256 KiB"
        [[swarm.group]]
        name = "seed"
        kind = "seed"
        up = "1 MiB"
        [[case]]
        name = "as it is"
        [[case]]
        name = "slow"
        set = { "swarm.main.group.seed.up" = "1 KiB" }
    "#;

    #[test]
    fn cases_change_what_they_name() {
        let cases = load(PLAN, &["swarm.main.size=524288".into()]).unwrap();
        let ups: Vec<u64> = cases.iter().map(|c| c.plan.swarm[0].group[0].up).collect();
        assert_eq!(ups, [1 << 20, 1 << 10]);
        assert!(
            cases
                .iter()
                .all(|case| case.plan.swarm[0].size == 512 << 10)
        );
    }

    #[test]
    fn mistakes_are_told() {
        let error = |change: &str| load(PLAN, &[change.into()]).unwrap_err().to_string();
        assert!(error("swarm.other.size=1").contains("not in the plan"));
        assert!(error("nonsense").contains("path=value"));
        assert!(error("swarm.main.pieces=1").contains("pieces"));
        assert!(error("swarm.main.block=1000").contains("multiple"));
        assert!(error("swarm.main.group.seed.up=0").contains("line"));
    }
}
