# Makes the chart's README from values.yaml: one row per value with its path, default and the comment above it.
#
# A key with a comment is a row, and what is below it belongs to its default. A key without one is a heading of those below it, unless it
# is one of the names below that mean the same everywhere. A value that nobody explains ends the run with an error.

BEGIN {
    meaning["image"] = "Image of the sidecar."
    meaning["pullPolicy"] = "When to pull it: Always, IfNotPresent or Never."
    meaning["resources"] = "Requests and limits."
    meaning["labels"] = "Labels of the object, such as those that an operator selects by."
    meaning["interval"] = "How often to scrape."
    owner = -1
    bad = 0
}

function flush_row() {
    if (row == "") return
    sub(/; $/, "", inner)
    shown = value != "" ? "`" value "`" : (inner != "" ? "`" inner "`" : "")
    gsub(/\|/, "\\|", text)
    print "| `" row "` | " shown " | " text " |"
    row = ""
}

/^ *#/ {
    line = $0
    sub(/^ *# ?/, "", line)
    comment = comment == "" ? line : comment " " line
    next
}
/^ *$/ { comment = ""; next }

{
    match($0, /^ */)
    depth = RLENGTH
    line = substr($0, depth + 1)
    if (owner >= 0 && (depth > owner || (depth == owner && line ~ /^- /))) {
        inner = inner line "; "
        comment = ""
        next
    }
    flush_row()
    owner = -1
    key = line
    sub(/:.*/, "", key)
    rest = line
    sub(/^[^:]*: */, "", rest)
    if (line ~ /:$/) rest = ""
    path[depth] = key
    full = ""
    for (d = 0; d < depth; d += 2) full = full path[d] "."
    full = full key
    if (comment == "" && full != "image" && (key in meaning)) comment = meaning[key]
    if (comment == "" && rest == "") next
    if (comment == "" && full !~ /issuerRef/) {
        print "values.yaml: " full " has no comment that says what it is" > "/dev/stderr"
        bad = 1
    }
    row = full; value = rest; text = comment; inner = ""; comment = ""; owner = depth
}

END { flush_row(); exit bad }
