//! The JSON Schema of a file, for completion and checking in editors (Taplo, Tombi) through `#:schema ./FILE.schema.json`.

use serde_json::{Map, Value, json};

use super::keys::{KeyType, Section};

/// The schema, in draft 7, which all editors know. `sections` are all tables but the file itself.
pub fn schema(title: &str, file: &Section, sections: &[&'static Section]) -> Value {
    let mut schema = table(file);
    if let Some(fields) = schema.as_object_mut() {
        fields.insert("$schema".into(), json!("http://json-schema.org/draft-07/schema#"));
        fields.insert("title".into(), json!(title));
        let definitions: Map<String, Value> =
            sections.iter().map(|section| (definition(section), table(section))).collect();
        fields.insert("definitions".into(), definitions.into());
    }
    schema
}

fn definition(section: &Section) -> String {
    let words: Vec<&str> =
        section.path.split(|mark: char| !mark.is_ascii_lowercase()).filter(|word| !word.is_empty()).collect();
    words.join("-")
}

fn reference(section: &Section) -> Value {
    json!({ "$ref": format!("#/definitions/{}", definition(section)) })
}

fn table(section: &Section) -> Value {
    let properties: Map<String, Value> = section
        .keys
        .iter()
        .map(|key| {
            let mut value = of(key.takes);
            if let Some(fields) = value.as_object_mut() {
                let about = match key.default {
                    "" | "required" => key.meaning.to_owned(),
                    default => format!("{} Default: {default}.", key.meaning),
                };
                // Draft 7 ignores the fields beside a reference.
                if let Some(reference) = fields.remove("$ref") {
                    fields.insert("allOf".into(), json!([{ "$ref": reference }]));
                }
                fields.insert("description".into(), json!(about));
            }
            (key.name.to_owned(), value)
        })
        .collect();
    let required: Vec<&str> = section.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let mut schema = json!({
        "type": "object",
        "description": section.meaning,
        "properties": properties,
        "additionalProperties": false,
    });
    if let Some(fields) = schema.as_object_mut() {
        if !required.is_empty() {
            fields.insert("required".into(), json!(required));
        }
        if section.at_least_one {
            fields.insert("minProperties".into(), json!(1));
        }
    }
    schema
}

fn of(takes: KeyType) -> Value {
    match takes {
        KeyType::Version => json!({ "type": "integer", "const": 1 }),
        KeyType::Text => json!({ "type": "string" }),
        KeyType::Texts => json!({ "anyOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" }, "minItems": 1 },
        ] }),
        KeyType::TextsOrTable(section) => json!({ "anyOf": [
            { "type": "string" },
            { "type": "array", "items": { "type": "string" }, "minItems": 1 },
            reference(section),
        ] }),
        KeyType::TextList => json!({ "type": "array", "items": { "type": "string" } }),
        KeyType::Bool => json!({ "type": "boolean" }),
        KeyType::Count(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        KeyType::Duration => json!({ "type": "string", "pattern": "[0-9]", "examples": ["10m", "1h 30m", "7d"] }),
        KeyType::DateOrMoment => {
            json!({ "anyOf": [{ "type": "string", "format": "date" }, { "type": "string", "format": "date-time" }] })
        }
        KeyType::Moment => json!({ "type": "string", "format": "date-time" }),
        KeyType::TimeOfDay => json!({ "type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$" }),
        KeyType::Word(words) => json!({ "type": "string", "enum": words }),
        KeyType::Words(words) => {
            json!({ "type": "array", "items": { "type": "string", "enum": words }, "minItems": 1 })
        }
        KeyType::Table(section) => reference(section),
        KeyType::Tables(section) => json!({ "type": "array", "items": reference(section), "minItems": 1 }),
        KeyType::Named(section) => json!({
            "type": "object",
            "propertyNames": { "pattern": "^[a-z0-9-]{1,64}$" },
            "additionalProperties": reference(section),
        }),
        KeyType::NamedWords(words) => json!({
            "type": "object",
            "propertyNames": { "pattern": "^[a-z0-9-]{1,64}$" },
            "additionalProperties": { "type": "string", "enum": words },
        }),
        KeyType::WordOrConditions(word, section) => {
            json!({ "anyOf": [{ "type": "string", "const": word }, reference(section)] })
        }
    }
}
