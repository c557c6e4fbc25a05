#!/bin/bash
# 0002-lint: what tools can say about scripts, manual pages, units and sources
. tests/lib.sh

# Banned: no bound on what they write, or not safe to use twice.
banned='\b(strcpy|strcat|sprintf|vsprintf|strtok|gets|mktemp|gmtime|localtime)\('
no_banned() { ! git grep -nE "$banned" -- '*.c' '*.h' ':!tests/'; }
short_files() {
    local file lines rc=0
    for file in $(git ls-files '*.c' '*.h'); do
        lines=$(wc -l <"$file")
        [ "$lines" -le 850 ] || { echo "$file: $lines lines"; rc=1; }
    done
    return $rc
}

if ! git ls-files >/dev/null 2>&1; then
    plan_skip "this is not a git tree"
fi
if command -v shellcheck >/dev/null; then
    while read -r script; do
        ok "shellcheck $script" shellcheck -x -S warning "$script"
    done < <(git grep -lE '^#!/bin/(ba)?sh' -- ':!*.c'; echo tests/lib.sh)
else
    skip 'shellcheck' 'shellcheck is not installed'
fi
rst=$(command -v rst2man || command -v rst2man.py)
for page in $(git ls-files 'man/*.rst'); do
    if [ -n "$rst" ]; then
        ok "rst2man $page" "$rst" --strict "$page" "$tmp/page"
    else
        skip "rst2man $page" 'python3-docutils is not installed'
    fi
done
if command -v systemd-analyze >/dev/null; then
    # The programs are wherever the tree was built: point the units there.
    for unit in etc/systemd/*; do
        sed "s|/usr/libexec/clustermatic|$libexec|" "$unit" >"$tmp/$(basename "$unit")"
    done
    for unit in etc/systemd/*; do
        ok "systemd-analyze verify $unit" \
            systemd-analyze verify --man=no "$tmp/$(basename "$unit")"
    done
else
    skip 'systemd units' 'systemd-analyze is not installed'
fi
for script in $(git ls-files '*.py'); do
    ok "$script compiles" python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read())' "$script"
done
ok 'no banned function is called' no_banned
cleanups() { git ls-files -z '*.c' | xargs -0 tests/lint-cleanup.py; }
ok 'no buffer is freed before it is set up' cleanups
ok 'no source file has grown too long' short_files
done_testing
