//! Write tokens: create, list, rotate, retire, delete. A secret goes to standard output alone, so that it can be written
//! to a file; what is said about it goes beside it.

use ::stream::control::AdminClient;
use ::stream::token::{Rate, TokenSpec};
use admin::api::tokens::{Issued, Listed};
use anyhow::Result;
use http::Method;

use super::table;
use crate::args::{Token, TokenCreate, TokenName};

/// Runs the verb.
pub async fn run(token: Token) -> Result<()> {
    match token {
        Token::Create(create) => self::create(create).await,
        Token::List(admin) => list(&AdminClient::new(admin.admin)).await,
        Token::Rotate(TokenName { name, admin }) => {
            let issued: Issued =
                AdminClient::new(admin.admin).send(Method::POST, &format!("/api/v1/tokens/{name}/rotate"), &()).await?;
            show(&issued, "the secret before it stays good until `isolane token retire`");
            Ok(())
        }
        Token::Retire(TokenName { name, admin }) => {
            let path = format!("/api/v1/tokens/{name}/retire");
            let _done: () = AdminClient::new(admin.admin).send(Method::POST, &path, &()).await?;
            println!("only the newest secret of token {name} is good now");
            Ok(())
        }
        Token::Delete(TokenName { name, admin }) => {
            let path = format!("/api/v1/tokens/{name}");
            let _done: () = AdminClient::new(admin.admin).send(Method::DELETE, &path, &()).await?;
            println!("token {name} has ended");
            Ok(())
        }
    }
}

async fn create(create: TokenCreate) -> Result<()> {
    let TokenCreate { name, scope, bytes_per_second_max, requests_per_second_max, admin } = create;
    let scopes = scope.iter().map(|scope| scope.parse()).collect::<Result<_, _>>()?;
    let rate = Rate { bytes_per_second_max, requests_per_second_max };
    let spec = TokenSpec { name: name.parse()?, scopes, rate };
    let issued: Issued = AdminClient::new(admin.admin).send(Method::POST, "/api/v1/tokens", &spec).await?;
    show(&issued, "senders show it as `Authorization: Bearer SECRET`");
    Ok(())
}

fn show(issued: &Issued, hint: &str) {
    println!("{}", issued.secret);
    eprintln!("the secret of token {}, shown this once; {hint}", issued.name);
}

async fn list(admin: &AdminClient) -> Result<()> {
    let tokens: Vec<Listed> = admin.get("/api/v1/tokens").await?;
    let limit = |max: u64| if max == 0 { "-".to_owned() } else { max.to_string() };
    let row = |token: &Listed| {
        let scopes: Vec<String> = token.spec.scopes.iter().map(ToString::to_string).collect();
        let Rate { bytes_per_second_max, requests_per_second_max } = token.spec.rate;
        let live = token.secrets_live.to_string();
        vec![
            token.spec.name.to_string(),
            scopes.join(","),
            live,
            limit(bytes_per_second_max),
            limit(requests_per_second_max),
        ]
    };
    let titles = ["token", "scopes", "secrets live", "bytes/s", "requests/s"];
    table::print(&titles, &tokens.iter().map(row).collect::<Vec<_>>());
    Ok(())
}
