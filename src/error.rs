//! Every failure that a user can meet: one kind for each SQLSTATE of the contract, a message in PostgreSQL's style, and
//! where the user can act a hint that says what to do next. Messages never carry payload.

use pgrx::{PgLogLevel, PgSqlErrorCode};

use crate::host::report::Report;

/// What went wrong, as far as the SQLSTATE tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    BadValue,
    NullValue,
    Unknown,
    Exists,
    NotAdoptable,
    WrongType,
    Denied,
    InTransaction,
    NotSupported,
    NotReady,
    Busy,
    OverCap,
    Internal,
}

impl Kind {
    fn sqlstate(self) -> (&'static str, PgSqlErrorCode) {
        match self {
            Kind::BadValue => ("22023", PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE),
            Kind::NullValue => ("22004", PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED),
            Kind::Unknown => ("42704", PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT),
            Kind::Exists => ("42710", PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT),
            Kind::NotAdoptable => ("42809", PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE),
            Kind::WrongType => ("42804", PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH),
            Kind::Denied => ("42501", PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE),
            Kind::InTransaction => ("25001", PgSqlErrorCode::ERRCODE_ACTIVE_SQL_TRANSACTION),
            Kind::NotSupported => ("0A000", PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED),
            Kind::Busy => ("55P03", PgSqlErrorCode::ERRCODE_LOCK_NOT_AVAILABLE),
            Kind::NotReady => ("55000", PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
            Kind::OverCap => ("54000", PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED),
            Kind::Internal => ("58000", PgSqlErrorCode::ERRCODE_SYSTEM_ERROR),
        }
    }
}

/// An error on its way to the user.
#[derive(Debug, Clone)]
pub struct Error {
    kind: Kind,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

/// What every fallible function of qflow returns.
pub type Result<T> = std::result::Result<T, Error>;

macro_rules! constructors {
    ($($(#[$doc:meta])* $name:ident => $kind:ident;)*) => {
        $($(#[$doc])* pub fn $name(message: impl Into<String>) -> Self { Self::new(Kind::$kind, message.into()) })*
    };
}

impl Error {
    constructors! {
        /// 22023: a value outside its range, or of a wrong shape.
        bad_value => BadValue;
        /// 22004: NULL where a value is required.
        null_value => NullValue;
        /// 42704: an unknown queue, workflow or resource.
        unknown => Unknown;
        /// 42710: the name is taken.
        exists => Exists;
        /// 42809: a table that cannot be a queue.
        not_adoptable => NotAdoptable;
        /// 42804: a column of another type than a queue needs.
        wrong_type => WrongType;
        /// 42501: the caller lacks a right.
        denied => Denied;
        /// 25001: not in a transaction like this.
        in_transaction => InTransaction;
        /// 0A000: what cannot be done with this.
        not_supported => NotSupported;
        /// 55P03: somebody else has it, and an error was asked for.
        busy => Busy;
        /// 55000: something must be done first.
        not_ready => NotReady;
        /// 54000: above a cap.
        over_cap => OverCap;
        /// 58000: the server answered something that it never should.
        internal => Internal;
    }

    fn new(kind: Kind, message: String) -> Self {
        Self { kind, message, detail: None, hint: None }
    }

    /// Adds a full sentence that says more about what was found.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds a full sentence that says what the user can do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The five characters of the SQLSTATE.
    pub fn code(&self) -> &'static str {
        self.kind.sqlstate().0
    }

    /// The message without detail and hint.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The detail, if there is one.
    #[cfg(test)]
    pub fn detail_text(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// The hint, if there is one.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// What the user is told.
    pub fn report(&self) -> Report<'_> {
        Report {
            level: PgLogLevel::ERROR,
            sqlstate: self.kind.sqlstate().1,
            message: &self.message,
            detail: self.detail.as_deref(),
            hint: self.hint.as_deref(),
        }
    }
}

/// How loud what is no error is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// To the server's log only.
    Log,
    /// Something that the user should know.
    Notice,
    /// Something is not as he probably wanted.
    Warning,
}

impl Level {
    fn of_server(self) -> (PgLogLevel, PgSqlErrorCode) {
        match self {
            Level::Log => (PgLogLevel::LOG, PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION),
            Level::Notice => (PgLogLevel::NOTICE, PgSqlErrorCode::ERRCODE_SUCCESSFUL_COMPLETION),
            Level::Warning => (PgLogLevel::WARNING, PgSqlErrorCode::ERRCODE_WARNING),
        }
    }
}

/// Says something, and goes on.
pub fn say(level: Level, message: impl AsRef<str>) {
    send(level, message.as_ref(), None);
}

fn send(level: Level, message: &str, hint: Option<&str>) {
    let (level, sqlstate) = level.of_server();
    Report { level, sqlstate, message, detail: None, hint }.send();
}

/// Tells the operator, in the server's log.
pub fn log(message: impl AsRef<str>, hint: impl AsRef<str>) {
    send(Level::Log, message.as_ref(), Some(hint.as_ref()));
}

/// Tells the user of something that he should know, with what he can do.
pub fn note(message: impl AsRef<str>, hint: impl AsRef<str>) {
    send(Level::Notice, message.as_ref(), Some(hint.as_ref()));
}

/// The same where something is not as he probably wanted.
pub fn warn(message: impl AsRef<str>, hint: impl AsRef<str>) {
    send(Level::Warning, message.as_ref(), Some(hint.as_ref()));
}

/// Errors of the server that pass through qflow get a backtrace in their detail when RUST_BACKTRACE is set where the
/// server was started: of no use to a user, and slow. RUST_LIB_BACKTRACE=1 still asks for them.
pub fn keep_backtraces_out() {
    const VARIABLE: &str = "RUST_LIB_BACKTRACE";
    if std::env::var_os(VARIABLE).is_none() {
        std::env::set_var(VARIABLE, "0");
    }
}
