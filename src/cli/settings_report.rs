//! The settings as `check-config` prints them: a table for people, JSON for programs.

use serde_json::{Value, json};

use super::output::without_controls;
use crate::config::Setting;

const HEADER: [&str; 3] = ["SETTING", "SOURCE", "VALUE"];

/// One line for each setting: those that differ from their default first, then a rule, then the others. The value comes
/// last, so that a long one moves nothing.
pub(super) fn table(settings: &[Setting]) -> String {
    let (changed, others): (Vec<_>, Vec<_>) = settings.iter().partition(|setting| setting.is_changed);
    let rows = |settings: &[&Setting]| settings.iter().map(|setting| row(setting)).collect::<Vec<_>>();
    let (changed, others) = (rows(&changed), rows(&others));
    let widths = [0, 1].map(|column| {
        let cells = changed.iter().chain(&others).map(|row| row[column].len());
        cells.chain([HEADER[column].len()]).max().unwrap_or_default()
    });
    let line = |[setting, source, value]: [&str; 3]| {
        format!("{setting:0$}  {source:1$}  {value}", widths[0], widths[1]).trim_end().to_owned() + "\n"
    };
    let lines = |rows: &[[String; 3]]| rows.iter().map(|row| line(row.each_ref().map(String::as_str))).collect();
    let rule = "-".repeat(widths[0] + widths[1] + HEADER[2].len() + 4) + "\n";
    let header = line(HEADER);
    let (changed, others): (String, String) = (lines(&changed), lines(&others));
    if changed.is_empty() { header + &others } else { header + &changed + &rule + &others }
}

fn row(setting: &Setting) -> [String; 3] {
    let value = setting.value.as_deref().map_or_else(|| "-".to_owned(), without_controls);
    [setting.flag.clone(), setting.source.name().to_owned(), value]
}

/// The same as JSON, in the order of `--help`.
pub(super) fn as_json(settings: &[Setting]) -> Value {
    let object = |setting: &Setting| {
        json!({
            "name": setting.flag,
            "value": setting.value,
            "source": setting.source.name(),
            "changed": setting.is_changed,
        })
    };
    settings.iter().map(object).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    fn setting(flag: &str, value: Option<&str>, source: Source, is_changed: bool) -> Setting {
        Setting { flag: flag.into(), value: value.map(Into::into), source, is_changed }
    }

    #[test]
    fn long_values_and_control_characters_keep_the_columns() {
        let long = format!("/{}\n\u{1b}[2J", "x".repeat(300));
        let settings = [
            setting("--data-dir", Some(&long), Source::Environment, true),
            setting("--store", Some("embedded:"), Source::Flag, false),
            setting("--store-ca-file", None, Source::Default, false),
        ];
        let lines: Vec<_> = table(&settings).lines().map(ToOwned::to_owned).collect();
        assert_eq!(lines[0], "SETTING          SOURCE       VALUE");
        assert_eq!(lines[1], format!("--data-dir       environment  /{}\\n\\u{{1b}}[2J", "x".repeat(300)));
        assert_eq!(lines[2], "-".repeat(lines[0].len()));
        assert_eq!(lines[3], "--store          flag         embedded:");
        assert_eq!(lines[4], "--store-ca-file  default      -");
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn without_a_changed_setting_there_is_no_rule() {
        let text = table(&[setting("--store", Some("embedded:"), Source::Default, false)]);
        assert_eq!(text, "SETTING  SOURCE   VALUE\n--store  default  embedded:\n");
    }
}
