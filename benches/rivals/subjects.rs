//! Who the cases are put to, and one of them, started for a case.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use crate::{
    Result, axum_service,
    backend::{Backend, Mode},
    client::{Answer, Ask},
    process::find,
    servers::{Server, gate, idempotent_proxy, python},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Clients speak to the service itself: what the ledger has where nobody does anything.
    Nobody,
    Gate,
    IdempotentProxy {
        redis: bool,
    },
    Asgi,
    Fastapi,
    /// Clients have a session, or none.
    Axum {
        session: bool,
    },
}

pub(crate) const SUBJECTS: [Subject; 8] = [
    Subject::Nobody,
    Subject::Gate,
    Subject::IdempotentProxy { redis: true },
    Subject::IdempotentProxy { redis: false },
    Subject::Asgi,
    Subject::Fastapi,
    Subject::Axum { session: true },
    Subject::Axum { session: false },
];

const SERVICE: &str = include_str!("service.py");
const ASGI: &str = "asgi-idempotency-header";
const FASTAPI: &str = "fastapi-idempotency";

impl Subject {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody in between",
            Self::Gate => "oncegate",
            Self::IdempotentProxy { redis: true } => "idempotent-proxy, Redis",
            Self::IdempotentProxy { redis: false } => "idempotent-proxy, memory",
            Self::Asgi => ASGI,
            Self::Fastapi => FASTAPI,
            Self::Axum { session: true } => "axum-idempotent",
            Self::Axum { session: false } => "axum-idempotent, no session",
        }
    }

    /// Whether it waits for the service, and for so long only.
    pub(crate) fn has_timeout(self) -> bool {
        matches!(self, Self::Gate | Self::IdempotentProxy { .. })
    }

    /// What is missing on this machine, with the command that installs it.
    pub(crate) fn missing(self) -> Option<String> {
        let environment = |package: &str| {
            format!(
                "{package}: python3 -m venv ENV && ENV/bin/pip install {package} fastapi \
                 'uvicorn[standard]' 'redis[hiredis]', then set {}=ENV/bin/python",
                python::VARIABLE
            )
        };
        let own = match self {
            Self::Nobody | Self::Gate => None,
            Self::IdempotentProxy { .. } => idempotent_proxy::missing(),
            Self::Asgi => (!python::has("idempotency_header_middleware, uvicorn, redis"))
                .then(|| environment(ASGI)),
            Self::Fastapi => {
                (!python::has("fastapi_idempotency, uvicorn")).then(|| environment(FASTAPI))
            }
            Self::Axum { .. } => axum_service::missing(),
        };
        own.or_else(|| {
            let redis = self.needs_redis() && find("redis-server").is_none();
            redis.then(|| "redis-server: apt-get install redis-server".to_owned())
        })
    }

    fn needs_redis(self) -> bool {
        matches!(self, Self::IdempotentProxy { redis: true } | Self::Asgi)
    }

    /// Starts it with a service that does this, and with this time-out for it, if it has any.
    pub(crate) async fn start(self, mode: Mode, timeout: Option<Duration>) -> Result<Target> {
        let backend = match self {
            Self::Nobody | Self::Gate | Self::IdempotentProxy { .. } => {
                Some(Backend::start(mode).await?)
            }
            // The service is in the same program.
            Self::Asgi | Self::Fastapi | Self::Axum { .. } => None,
        };
        let before = || backend.as_ref().map(|backend| backend.address).ok_or("no backend");
        let service = |name| [("MODE", mode.name()), ("MIDDLEWARE", name)];
        let server = match self {
            Self::Nobody => None,
            Self::Gate => Some(gate::start(before()?, timeout)?),
            Self::IdempotentProxy { redis } => {
                Some(idempotent_proxy::start(before()?, redis, timeout)?)
            }
            Self::Asgi => Some(python::serve(SERVICE, true, &service(ASGI))?),
            Self::Fastapi => Some(python::serve(SERVICE, false, &service(FASTAPI))?),
            Self::Axum { .. } => Some(axum_service::start(mode)?),
        };
        let address = match &server {
            Some(server) => server.address,
            None => before()?,
        };
        let mut target = Target {
            subject: self,
            address,
            path: server.as_ref().map_or("/payments", |server| server.path),
            ledger: before().unwrap_or(address),
            session: None,
            _server: server,
            _backend: backend,
        };
        target.session = target.login().await?;
        Ok(target)
    }
}

/// One of them with a service and a store of its own. Dropped, all of it ends.
pub(crate) struct Target {
    subject: Subject,
    address: SocketAddr,
    path: &'static str,
    /// Who says what was executed.
    ledger: SocketAddr,
    session: Option<String>,
    // Ends before the service behind it: fields are dropped in order.
    _server: Option<Server>,
    _backend: Option<Backend>,
}

/// How long what must happen may take.
const PATIENCE: Duration = Duration::from_secs(5);
const GLANCE: Duration = Duration::from_millis(5);

impl Target {
    /// The request of all cases.
    pub(crate) fn ask(&self) -> Ask {
        let mut headers = vec![
            ("Idempotency-Key", "7c9e6679-7425-40de-944b-e07fc1f90ae7".to_owned()),
            ("Authorization", "Bearer of-one".to_owned()),
        ];
        headers.extend(self.session.iter().map(|session| ("Cookie", session.clone())));
        Ask {
            address: self.address,
            method: "POST",
            path: self.path,
            headers,
            body: r#"{"amount":1999}"#,
        }
    }

    /// The same from somebody else, who has a session of his own where callers are told apart
    /// by that.
    pub(crate) async fn ask_of_another(&self) -> Result<Ask> {
        let mut ask = self.ask();
        ask.headers.retain(|(name, _)| *name == "Idempotency-Key");
        ask.headers.push(("Authorization", "Bearer of-another".to_owned()));
        ask.headers.extend(self.login().await?.map(|session| ("Cookie", session)));
        Ok(ask)
    }

    /// A new session, where clients have any.
    async fn login(&self) -> Result<Option<String>> {
        if self.subject != (Subject::Axum { session: true }) {
            return Ok(None);
        }
        let answer = self.of_service("POST", "/login").await?;
        let cookie = answer.cookies.first().and_then(|cookie| cookie.split(';').next());
        Ok(Some(cookie.ok_or("/login gave no session")?.to_owned()))
    }

    /// How many payments were begun, and how many of them are finished.
    async fn executed(&self) -> Result<(u64, u64)> {
        let answer = self.of_service("GET", "/executed").await?;
        let (begun, finished) =
            answer.body.split_once(' ').ok_or("/executed has no two numbers")?;
        Ok((begun.parse()?, finished.parse()?))
    }

    pub(crate) async fn executions(&self) -> Result<u64> {
        Ok(self.executed().await?.0)
    }

    /// Waits until the service has begun a payment.
    pub(crate) async fn reached(&self) -> Result<()> {
        self.until("the service is reached", |begun, _| begun > 0).await
    }

    /// Lets the service go on, and waits until nothing is left to do.
    pub(crate) async fn finish(&self) -> Result<()> {
        self.release().await?;
        self.until("the service is finished", |begun, finished| begun == finished).await
    }

    pub(crate) async fn release(&self) -> Result<()> {
        self.of_service("POST", "/release").await.map(drop)
    }

    async fn until(&self, what: &str, reached: impl Fn(u64, u64) -> bool) -> Result<()> {
        let begun = Instant::now();
        loop {
            let (started, finished) = self.executed().await?;
            if reached(started, finished) {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("it took too long until {what}").into());
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Asks the service itself, past what is before or around it.
    async fn of_service(&self, method: &'static str, path: &'static str) -> Result<Answer> {
        let ask = Ask { address: self.ledger, method, path, headers: Vec::new(), body: "" };
        let answer = ask.exchange().await.filter(|answer| answer.status == 200);
        answer.ok_or_else(|| format!("the service does not answer {path}").into())
    }
}
