# report.awk - turn a run's plan (see lib.sh) into a page, or (brief=1, only=ID)
# into the lines of one figure while the run goes on
BEGIN { FS = "\t" }

function median(v, n) { return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2 }
function show(x) { return x >= 100 ? sprintf("%.0f", x) : x >= 10 ? sprintf("%.1f", x) : sprintf("%.2f", x) }
function times(x) { return sprintf(x < 0.1 ? "%.3f" : x < 100 ? "%.2f" : "%.0f", x) }

$1 == "fact" { facts[++nfacts] = "| " $2 " | " $3 " |" }
$1 == "figure" { order[++nfigures] = $2; unit[$2] = $3; title[$2] = $4 }
$1 == "case" { keys[$2, ++nkeys[$2]] = $3; amount[$2, $3] = $4; text[$2, $3] = $5 }
$1 == "skip" {
    if (!(($2, $3) in text))
        keys[$2, ++nkeys[$2]] = $3
    reason[$2, $3] = $4
    text[$2, $3] = $5
}
$1 == "remark" { remark[$2] = remark[$2] "\n(" $3 ")\n" }
$1 == "aim" { aims[$2, ++naims[$2]] = $3 FS $4 FS $5 FS $6 FS $7 }
$1 == "sample" && NF > 5 {
    n = NF - 5
    for (i = 1; i <= n; i++) { # a rate falls where the time rises
        s = $(5 + i)
        if (unit[$2] == "ms")
            v[i] = s * 1000
        else if (amount[$2, $3] != "")
            v[n + 1 - i] = amount[$2, $3] / s
        else
            v[i] = s
    }
    low[$2, $3] = v[1]
    mid[$2, $3] = median(v, n)
    high[$2, $3] = v[n]
    count[$2, $3] = n
    failed[$2, $3] = $4
    failure[$2, $3] = $5
}

function row(f, k,    out, ratio) {
    out = text[f, k]
    gsub(/\|/, "\\|", out)
    if (k == "ours")
        out = "**" out "**"
    if (!((f, k) in mid))
        return "| " out " | not measured: " reason[f, k] " | | | | |"
    ratio = k != "ours" && (f, "ours") in mid ? times(mid[f, "ours"] / mid[f, k]) : ""
    if (failed[f, k] > 0)
        out = out " (runs that failed: " failed[f, k] "; " failure[f, k] ")"
    return "| " out " | " show(low[f, k]) " | " show(mid[f, k]) " | " show(high[f, k]) " | " \
           count[f, k] " | " ratio " |"
}
function reached(op, x, limit) {
    return op == "<=" || op == "+<=" ? x <= limit : op == "<" ? x < limit : op == ">" ? x > limit : x >= limit
}

END {
    if (brief) {
        for (i = 1; i <= nkeys[only]; i++) {
            k = keys[only, i]
            if ((only, k) in mid)
                printf "           %-9s %s %s (%s - %s)\n", k, show(mid[only, k]), unit[only], \
                       show(low[only, k]), show(high[only, k])
        }
        exit
    }
    print "# Results\n"
    print "Written by `make bench`: one run, everything on one machine, the cases of a table in turn. Minimum, median and maximum of so many runs. \"Ours by theirs\" is the median of the first row divided by that of the other. Only figures of one run can be compared: the same machine gives others when something else is at work. How each is measured: `README.md`.\n"
    print "| | |\n|---|---|"
    for (i = 1; i <= nfacts; i++)
        print facts[i]
    print "\n## Aims\n\n| figure | aim | ratio | reached |\n|---|---|---|---|"
    for (i = 1; i <= nfigures; i++)
        for (j = 1; j <= naims[order[i]]; j++) {
            f = order[i]
            split(aims[f, j], a, FS)
            if (!((f, a[1]) in mid) || (a[4] != "-" && !((f, a[4]) in mid))) {
                print "| " title[f] " | " a[5] " | | not measured |"
                continue
            }
            x = mid[f, a[1]]
            if (a[2] == "+<=") # so much more
                x -= mid[f, a[4]]
            else if (a[4] != "-")
                x /= mid[f, a[4]]
            print "| " title[f] " | " a[5] " | " times(x) (a[4] == "-" || a[2] == "+<=" ? " " unit[f] : "") " | " \
                  (reached(a[2], x, a[3]) ? "yes" : "**no**") " |"
        }
    for (i = 1; i <= nfigures; i++) {
        f = order[i]
        print "\n## " title[f] "\n"
        print "| " unit[f] " | min | median | max | runs | ours by theirs |\n|---|---|---|---|---|---|"
        for (j = 1; j <= nkeys[f]; j++)
            print row(f, keys[f, j])
        if (f in remark)
            printf "%s", remark[f]
    }
}
