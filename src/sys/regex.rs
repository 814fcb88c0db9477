//! POSIX extended regular expressions, by the C library (`regcomp(3)`).

#![allow(clippy::undocumented_unsafe_blocks, reason = "see # Safety of `sys`")]

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;

/// A compiled expression.
pub struct Regex(Box<libc::regex_t>);

impl Regex {
    /// Compiles an expression.
    ///
    /// # Errors
    /// What is wrong with it, in the C library's words.
    pub fn new(text: &str) -> Result<Self, String> {
        let text = CString::new(text).map_err(|_| "holds a zero byte".to_owned())?;
        let mut place = Box::new(MaybeUninit::<libc::regex_t>::zeroed());
        let answer = unsafe { libc::regcomp(place.as_mut_ptr(), text.as_ptr(), libc::REG_EXTENDED | libc::REG_NOSUB) };
        if answer == 0 {
            // SAFETY: the call has filled it.
            return Ok(Self(unsafe { Box::from_raw(Box::into_raw(place).cast()) }));
        }
        let mut words = [0; 128];
        unsafe { libc::regerror(answer, place.as_ptr(), words.as_mut_ptr().cast(), words.len()) };
        Err(CStr::from_bytes_until_nul(&words).unwrap_or_default().to_string_lossy().into_owned())
    }

    /// Whether some part of a text matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let Ok(text) = CString::new(text) else { return false };
        unsafe { libc::regexec(&raw const *self.0, text.as_ptr(), 0, std::ptr::null_mut(), 0) == 0 }
    }
}

impl Drop for Regex {
    fn drop(&mut self) {
        unsafe { libc::regfree(&raw mut *self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::Regex;

    #[test]
    fn parts_match_unless_anchored() {
        let matches = |pattern: &str, text: &str| Regex::new(pattern).unwrap().matches(text);
        assert!(matches("web", "my-web-1") && matches("^web-[0-9]+$", "web-12") && matches("a|b", "b"));
        assert!(!matches("^web$", "web1") && !matches("w.b", "wb"));
        assert!(!Regex::new("(").err().unwrap().is_empty());
        assert!(Regex::new("a\0b").is_err());
    }
}
