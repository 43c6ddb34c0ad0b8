//! The file of resource limits: lines of `name bytes`, the names being address_space, data and stack.

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub address_space: u64,
    pub data: u64,
    pub stack: u64,
}

/// Reads the limits; zero stands for one that is not named. The error names line and problem.
pub fn parse(text: &str) -> Result<Limits, String> {
    let mut limits = Limits::default();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = number + 1;
        let (name, value) =
            line.split_once(' ').ok_or_else(|| format!("line {at}: expected a name and a number of bytes"))?;
        let bytes: u64 = value.trim().parse().map_err(|_| format!("line {at}: {name} is no whole number"))?;
        match name {
            "address_space" => limits.address_space = bytes,
            "data" => limits.data = bytes,
            "stack" => limits.stack = bytes,
            _ => return Err(format!("line {at}: unknown limit {name}")),
        }
    }
    Ok(limits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_three_limits() {
        let found = parse("# why\naddress_space 1000\n\ndata 20\nstack 3\n");
        assert_eq!(found, Ok(Limits { address_space: 1000, data: 20, stack: 3 }));
    }

    #[test]
    fn says_which_line_is_wrong() {
        assert_eq!(parse("stack 1\nstack"), Err("line 2: expected a name and a number of bytes".into()));
        assert_eq!(parse("stack -1"), Err("line 1: stack is no whole number".into()));
        assert_eq!(parse("cores 1"), Err("line 1: unknown limit cores".into()));
    }
}
