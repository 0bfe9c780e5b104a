//! `/openapi.json`: OpenAPI 3.1 from the table of routes and the types of requests and answers, so that it cannot drift.

use bytes::Bytes;
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    access::Access, content::CONTENT_TYPES, error::Failure, route::Route, routes::routes, shape, v3,
};

/// The document, as JSON.
pub(super) fn document() -> Bytes {
    // Draft 2020-12 is what OpenAPI 3.1 means by a schema.
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    let mut generator = settings.into_generator();

    let failure = generator.subschema_for::<Failure<'_>>();
    let mut paths = Map::new();
    for route in routes() {
        let method = if route.request.is_some() {
            "post"
        } else {
            "get"
        };
        let operation = operation(&route, &mut generator, &json!(failure));
        for path in route.paths {
            paths.insert((*path).to_owned(), json!({ method: operation }));
        }
    }
    let failure_v3 = generator.subschema_for::<v3::FailureV3<'_>>();
    for route in v3::routes() {
        let operation = operation(&route, &mut generator, &json!(failure_v3));
        for path in route.paths {
            let v2 = paths.get(*path).map(|call| call["post"].clone());
            let operation = with_header(operation.clone(), v2);
            paths.insert((*path).to_owned(), json!({ "post": operation }));
        }
    }
    let mut schemas = generator.take_definitions(true);
    for known in CONTENT_TYPES {
        let mut schema = shape::schema(known.fields);
        schema["description"] = format!("`content` of contentType {}", known.number).into();
        schemas.insert(format!("Content{}{}", known.number, known.name), schema);
    }
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Towncrier admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The calls of OpenIM v2 and v3. errCode 0 means done; for a send: durable.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "apiKey", "in": "header", "name": "token" } },
        },
    });
    document.to_string().into()
}

fn operation(route: &Route, generator: &mut SchemaGenerator, failure: &Value) -> Value {
    let answer = match route.answer {
        Some(describe) => content("application/json", json!(describe(generator))),
        None => content("text/plain", json!({ "type": "string" })),
    };
    let mut operation = json!({
        "summary": route.summary,
        "responses": {
            "200": described("Done", answer),
            "default": described("Refused", content("application/json", failure.clone())),
        },
    });
    if let Some(describe) = route.request {
        operation["requestBody"] = json!({
            "required": true,
            "content": content("application/json", json!(describe(generator))),
        });
    }
    match route.access {
        Access::Open | Access::Secret => {}
        Access::Token => operation["security"] = json!([{ "token": [] }]),
        Access::User(role) => {
            operation["security"] = json!([{ "token": [] }]);
            operation["description"] = format!(
                "An administrator's token needs the role `{}` (`admin.roles`).",
                role.name()
            )
            .into();
        }
        Access::Own(role) => {
            operation["security"] = json!([{ "token": [] }]);
            operation["description"] = format!(
                "The token must be the user's, or an administrator's with the role `{}`.",
                role.name()
            )
            .into();
        }
        Access::Admin(role) => {
            operation["security"] = json!([{ "token": [] }]);
            operation["description"] = format!(
                "The token must be an administrator's (`admin.user_ids`) with the role `{}` (`admin.roles`).",
                role.name()
            )
            .into();
        }
    }
    operation
}

/// A v3 call with its header; together with v2's call of the same path, if there is one.
fn with_header(mut v3: Value, v2: Option<Value>) -> Value {
    let is_required = v2.is_none();
    if let Some(v2) = v2 {
        for pointer in [
            "/requestBody/content/application~1json/schema",
            "/responses/200/content/application~1json/schema",
            "/responses/default/content/application~1json/schema",
        ] {
            if let (Some(of_v3), Some(of_v2)) = (v3.pointer_mut(pointer), v2.pointer(pointer)) {
                *of_v3 = json!({ "oneOf": [of_v2, of_v3] });
            }
        }
        v3["description"] = "With the header operationID in OpenIM v3's form, else in v2's.".into();
        v3["security"] = v2["security"].clone();
    }
    v3["parameters"] = json!([{
        "name": "operationID",
        "in": "header",
        "required": is_required,
        "schema": { "type": "string" },
    }]);
    v3
}

fn content(kind: &str, schema: Value) -> Value {
    json!({ kind: { "schema": schema } })
}

fn described(description: &str, content: Value) -> Value {
    json!({ "description": description, "content": content })
}
