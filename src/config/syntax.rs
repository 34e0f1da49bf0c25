//! Syntax errors in the words of somebody who writes a configuration, not of somebody who writes a parser.

use super::tree::Broken;
use serde_saphyr::granit_parser::{ErrorKind, ScanError};

/// Where a text stops being YAML, what is wrong and what is usually meant.
pub(super) fn explain(error: &ScanError, text: &str) -> Broken {
    let at = error.marker().byte_offset().unwrap_or_default().min(text.len());
    let (message, hint) = words(error.kind());
    let message = message.map_or_else(|| format!("this is not YAML: {}", error.kind()), str::to_owned);
    Broken { span: at..at, message, hint: hint.to_owned() }
}

fn words(kind: &ErrorKind) -> (Option<&'static str>, &'static str) {
    match kind {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabAtBlockScalarStart
        | ErrorKind::TabInIndentation
        | ErrorKind::TabInPlainScalar => (Some("a tab stands in the indentation"), "indent with spaces"),
        ErrorKind::UnclosedQuotedScalar => {
            (Some("a quote is not closed"), "close the quote; inside single quotes write '' for one of them")
        }
        ErrorKind::UnclosedFlowCollection { .. }
        | ErrorKind::UnexpectedEofFlowSequence
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::UnexpectedEofImplicitFlowMapping => {
            (Some("a bracket is not closed"), "close every [ with ] and every { with }")
        }
        ErrorKind::MismatchedFlowCollectionEnd { .. } | ErrorKind::MisplacedFlowCollectionEnd => {
            (Some("a bracket closes what was not opened"), "close every [ with ] and every { with }")
        }
        ErrorKind::ExpectedFlowSequenceSeparator | ErrorKind::ExpectedFlowMappingSeparator => {
            (Some("a comma or a closing bracket is missing"), "write [a, b] or {a: 1, b: 2}")
        }
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => {
            (Some("a key without its colon"), "write key: value, with a space after the colon")
        }
        ErrorKind::MappingValueNotAllowed | ErrorKind::InvalidColonPlacement => (
            Some("a second `: ` in one line"),
            "quote a text that contains `: `, or put the key on a line of its own",
        ),
        ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::InvalidIndentation
        | ErrorKind::ExpectedBlockSequenceEntry
        | ErrorKind::MappingKeyNotAllowed
        | ErrorKind::BlockSequenceEntryNotAllowed => (
            Some("the indentation does not fit what stands above"),
            "the keys of one map, and the dashes of one list, begin in the same column",
        ),
        ErrorKind::RecursionLimitExceeded => {
            (Some("the nesting is too deep"), "the configuration itself is five deep")
        }
        ErrorKind::UnknownQuotedScalarEscape => (
            Some("an unknown escape in double quotes"),
            "in double quotes write \\\\ for \\, or use single quotes",
        ),
        ErrorKind::UnexpectedCharacter { .. } => {
            (None, "a text that begins with `@`, `%` or a back-quote must be quoted")
        }
        _ => (None, "quote texts with unusual characters: \"...\""),
    }
}
