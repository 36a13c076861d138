//! What stands in the way of a resource, and what to do about it.

use std::fmt;

/// Something that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Blocker {
    /// What it is, for a program.
    pub code: BlockerCode,
    /// What was found, for a reader.
    pub found: String,
    /// What to do about it.
    pub remedy: String,
}

impl Blocker {
    /// Describes a blocker.
    #[must_use]
    pub fn new(code: BlockerCode, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            code,
            found: found.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.code, self.found, self.remedy)
    }
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// The stable code of a blocker.
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum BlockerCode {
            $($(#[doc = $doc])+ $name,)+
            /// A code of another side that is not known here, at most 64 characters of it.
            Other(String),
        }

        impl BlockerCode {
            /// Returns the code.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$name => $text,)+
                    Self::Other(code) => code,
                }
            }

            /// Reads a code; one that is not known is kept as it is, cut to 64 characters.
            #[must_use]
            pub fn parse(code: &str) -> Self {
                match code {
                    $($text => Self::$name,)+
                    other => Self::Other(other.chars().take(64).collect()),
                }
            }
        }
    };
}

codes! {
    /// Somebody has to log in in a browser.
    BrowserAuthRequired = "BROWSER_AUTH_REQUIRED",
    /// The account may not use the service.
    AccountNotEligible = "ACCOUNT_NOT_ELIGIBLE",
    /// Terms have to be accepted, which a host does and an agent does not.
    TosAcceptanceRequired = "TOS_ACCEPTANCE_REQUIRED",
    /// A plan has to be chosen.
    PlanRequired = "PLAN_REQUIRED",
    /// There is no such offer.
    OfferUnknown = "OFFER_UNKNOWN",
    /// The offer has no such plan, or has it at another price.
    PlanUnknown = "PLAN_UNKNOWN",
    /// The other side names no price and the host none either.
    PriceUnknown = "PRICE_UNKNOWN",
    /// The name is taken by something else.
    NameTaken = "NAME_TAKEN",
    /// There are as many resources as there may be.
    LimitReached = "LIMIT_REACHED",
    /// The directory is not there, or cannot be written.
    DirectoryUnusable = "DIRECTORY_UNUSABLE",
    /// The server cannot be reached.
    ServerUnreachable = "SERVER_UNREACHABLE",
    /// The server is of an older version than needed.
    ServerTooOld = "SERVER_TOO_OLD",
    /// The role may not create databases.
    MayNotCreateDatabases = "MAY_NOT_CREATE_DATABASES",
    /// The role may not create roles.
    MayNotCreateRoles = "MAY_NOT_CREATE_ROLES",
    /// What databases are copied from was not prepared.
    TemplateMissing = "TEMPLATE_MISSING",
    /// The program is not there or does not run.
    ProgramUnusable = "PROGRAM_UNUSABLE",
    /// Somebody has to approve the spend.
    ApprovalRequired = "APPROVAL_REQUIRED",
    /// The spend authority denies it.
    SpendDenied = "SPEND_DENIED",
}

impl fmt::Display for BlockerCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
