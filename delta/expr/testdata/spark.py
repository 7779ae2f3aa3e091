"""Makes spark.json: what Spark gives for many expressions over a few rows. Run it with pyspark 4.0 and Java 17:

    python spark.py

Its choice of random expressions is seeded, so that a second run makes the same file. spark_test.go compares.
"""
import json
import os
import random

from pyspark.sql import SparkSession

HERE = os.path.dirname(os.path.abspath(__file__))

COLUMNS = [
    ("b", "boolean"), ("ti", "tinyint"), ("si", "smallint"), ("i", "int"), ("l", "bigint"), ("f", "float"), ("d", "double"),
    ("dec", "decimal(10,2)"), ("wide", "decimal(38,10)"), ("s", "string"), ("sn", "string"), ("sd", "string"),
    ("dt", "date"), ("ts", "timestamp"), ("ntz", "timestamp_ntz"),
]
ROWS = [
    [True, 1, 2, 3, 4, "1.5", "2.5", "12.34", "1234567.0123456789", "hello", "42", "2020-02-29", "2020-02-29", "2020-02-29 13:14:15.678901", "2020-02-29 13:14:15"],
    [False, -128, -32768, -2147483648, -9223372036854775808, "-0.0", "-0.0", "-99999999.99", "-9999999999999999999999999999.9999999999", "", "-7", "1969-12-31", "1969-12-31", "1969-12-31 23:59:59.999999", "1969-12-31 23:59:59.999999"],
    [None, 127, 32767, 2147483647, 9223372036854775807, "NaN", "NaN", "99999999.99", "9999999999999999999999999999.9999999999", "a%b_c\\d", "3.50", "9999-12-31 23:59:59", "9999-12-31", "9999-12-31 23:59:59.999999", "9999-12-31 00:00:00"],
    [True, 0, 0, 0, 0, "0.0", "0.0", "0.00", "0.0000000000", "x", "0", "1970-01-01T00:00:00Z", "1970-01-01", "1970-01-01 00:00:00", "1970-01-01 00:00:00"],
    [None] * 15,
    [False, -1, -1, -1, -1, "Infinity", "-Infinity", "-0.01", "-0.0000000001", "Grüße 世界 🎉", "abc", "no date", "0001-01-01", "0001-01-01 00:00:00", "0001-01-01 00:00:00"],
    [True, 5, 500, 70000, 5000000000, "3.25", "1e300", "0.05", "0.5000000000", "  trim me ", " 1e2 ", "2024-01-31 10:11:12.5+02:00", "2024-01-31", "2024-01-31 10:11:12.5", "2024-01-31 10:11:12.5"],
    [False, 12, 7, 100, 1582934400, "16777216", "0.1", "2.50", "100.0000000000", "TRUE", "true", "1582-10-15", "1582-10-15", "1582-10-15 01:02:03", "1582-10-15 01:02:03"],
]

EXPRESSIONS = r'''
'It''s'|'a' 'b'|"say ""x"""|'a\'b\n\u0041\101\%\q'|"it's"|'\\'|''|'ü🎉'
1|1L|1S|1Y|1.5|1.50D|2.5F|1.5BD|.5|5.|0.05|1e3|1.5e2|-2147483648|-(2147483648)|9223372036854775808|-9223372036854775808|- 5|-(-5)|+i|00012
true|FALSE|null|DATE '2020-01-01'|date'2020'|TIMESTAMP '2020-01-01 00:00:00Z'|timestamp'2020-01-01 00:00:00 +05:30'|TIMESTAMP_NTZ '2020-01-01 01:02:03.4'|DATE '10000-01-01'
b|`b`|B|st.x|ST.`y z`|st.deep.z
i = 3|i == 3|i <> 3|i != 3|i < l|i <= 3|i > 2.5|i >= d|d = d|f = f|f = d|d > 'NaN'|d < 0|d = 0|f <=> d|i <=> null|null <=> null|b = true|b < true|s = 'hello'|s < 'i'|s >= ''|dec = 12.34|dec > 12|dec < d|dec = wide|wide > dec|wide = 100|dt > '2020-01-01'|dt = sd|dt < ts|ts = dt|ts > ntz|ntz = dt|ts > '2020'|ts < '2020-02-29 13:14:16'|sn = 42|sn > i|i < sn|sn = d|sn = 42.0|sn = '42'|sn = b|b = sn|i = b|dt = 1|dt = ti|a = a|st = st|l = 9223372036854775807|l > 9223372036854775807.0|i = 3 = b|ti < si
i > 0 and b|b and null|b or null|not b|! b|not b = true|b and i > 0 or d > 0|b or 1/i > 0|i <> 0 and 10/i > 1|i = 0 or 10/i > 1|not null|b and s|not s|b is true|b is not true|b is false|b is not false|b is unknown|b is not unknown|i > 0 is not null|b and not b or b|s or b
i is null|i is not null|st is null|a is null|m is not null|1/i is null|isnull(i)|isnotnull(s)|st.x is null
i in (1, 2, 3)|i not in (1, 3)|i in (1, null)|i not in (1, null)|null in (1)|i in (1, 2.5)|i in ('3', 4)|s in ('hello', 'x')|sn in (1, 42)|dt in (DATE '2020-02-29', '1970-01-01')|d in (0, 2.5)|b in (true)|i in (l, si)|dec in (12.34, 2.5)|f in (1.5)|(i) in (3)
i between 1 and 5|i not between 1 and 5|d between 0 and 10|s between 'a' and 'i'|dt between '2020-01-01' and '2020-12-31'|i between '1' and 5|i between null and 2|ts between dt and dt + 1|i between 1 and 5 and b
s like 'h%'|s like '%o'|s like '_ello'|s like 'a\%b\_c\\d'|s like '%'|s like ''|s not like 'h%'|s like '%l%o%'|s like 'a/%b/_c%' escape '/'|s like null|s like '%界%'|s like 'Gr__e%'|'a\\b' like 'a\\\\b'|i like '3%'|s like '%\n%'|dt like '2020%'
s rlike '^h'|s rlike 'l+o$'|s rlike '[a-c]%'|s rlike '^\\s*$'|s regexp '\\d'|sn rlike '^-?[0-9]+$'|s rlike '^(hello|x)$'|rlike(s, 'e.l')
case when i > 0 then 'p' when i < 0 then 'n' else 'z' end|case i when 3 then 'three' when 0 then 'zero' end|case when b then 1 when i > 0 then 2.5 end|case when b then i else d end|case when b then dt else ts end|case when i <> 0 then 100 / i end|case when b then 1 else 'x' end|case sn when 42 then 'a' else 'b' end|case when null then 1 else 2 end
if(b, 1, 2)|if(i > 0, s, sn)|if(b, 1, 2.5)|if(b, i, sn)|if(i = 0, null, 10 / i)|if('true', 1, 2)|if(b, dt, null)|if(null, 1, 2)
coalesce(i, 5)|coalesce(null, i, l)|coalesce(s, sn, 'none')|coalesce(dt, ts)|coalesce(i, 1/0)|coalesce(b, false)|coalesce(1, 'a')|coalesce(null)|ifnull(i, 0)|nvl(s, 'x')|nullif(i, 3)|nullif(s, 'x')|nullif(d, 0)|nullif(i, 3.0)|coalesce(dec, 1)|nullif(i, null)
i + 1|i - 1|i * 2|i / 2|i % 3|i div 2|l + 1|l - 1|l * 2|l div -1|l % -1|-l|-i|-ti|-si|ti + ti|si * si|ti + si|ti * 2|si - 40000|i + l|i * i|i + f|i + d|f + f|f * f|f / 3|f % 2|d / i|d % 3|d * d|d + 0.1|l / 3|mod(i, 7)|i % 0|null - null|null / null|null div null|null % null|i / 0|i div 0|null / 0|d / 0|d % 0|f / f|'5' + i|i + '5'|sn + 1|sn * 2|sn / 2|sn % 5|'5' + '6'|b + 1|1 + dt|dt + 1|dt + ti|dt - 1|dt - i|dt + l|dt + '1'|dt + i|s + 1|+s|-sn|2 + 3 * 4|(2 + 3) * 4|10 - 2 - 3|-5 % 3|5 % -3|-5 div 3|7 div 2|si div ti
dec + 1|dec - 0.005|dec * 2|dec / 3|dec % 0.3|dec div 2|dec + i|dec * dec|dec / dec|dec + wide|wide + wide|wide * wide|wide / wide|wide * 10|wide / 3|wide - dec|wide % dec|wide % 7|dec * d|dec + l|dec / 0|dec % 0|dec div 0|i / 2.5|i * 1.1|l * 1.5|1.0 / 3|2.5 * 2.5|wide div 3|-dec|-wide|abs(dec)|l + 0.5|dec div 0.01|1.23456789012345678901 * 1.23456789012345678901|0.1 + 0.2|1.10 = 1.1
cast(i as string)|cast(l as int)|cast(i as smallint)|cast(i as tinyint)|cast(d as int)|cast(d as bigint)|cast(f as int)|cast(d as float)|cast(f as double)|cast(l as double)|cast(l as float)|cast(i as float)|cast(dec as int)|cast(dec as bigint)|cast(dec as string)|cast(wide as string)|cast(dec as double)|cast(wide as double)|cast(dec as decimal(5,1))|cast(wide as decimal(38,0))|cast(wide as decimal(10,2))|cast(i as decimal(10,2))|cast(i as decimal(12,2))|cast(l as decimal(38,18))|cast(d as decimal(10,2))|cast(f as decimal(10,2))|cast(d as decimal(38,2))|cast(b as int)|cast(b as string)|cast(b as double)|cast(b as decimal(3,1))|cast(i as boolean)|cast(d as boolean)|cast(dec as boolean)|cast(sn as int)|cast(sn as bigint)|cast(sn as double)|cast(sn as float)|cast(sn as decimal(10,1))|cast(sn as boolean)|cast(s as boolean)|cast(sn as tinyint)|cast(sd as date)|cast(sd as timestamp)|cast(sd as timestamp_ntz)|cast(dt as string)|cast(ts as string)|cast(ntz as string)|cast(dt as timestamp)|cast(ts as date)|cast(ntz as date)|cast(ts as bigint)|cast(ts as int)|cast(ts as double)|cast(ts as decimal(20,6))|cast(ts as decimal(20,3))|cast(i as timestamp)|cast(l as timestamp)|cast(d as timestamp)|cast(dec as timestamp)|cast(dt as int)|cast(i as date)|cast(b as date)|cast(b as timestamp)|cast(s as binary)|cast(cast(s as binary) as string)|i::string|i::decimal(10,2)|sn::int|cast(null as int)|cast(i as int)|cast(ntz as timestamp)|cast(ts as timestamp_ntz)|cast('1.5' as int)|cast(' 12 ' as int)|cast('+5' as int)|cast('1_0' as int)|cast('' as int)|cast('1e2' as decimal(5,0))|cast('.5' as decimal(5,2))|cast('5.' as double)|cast('1d' as double)|cast('0x1' as double)|cast('inf' as double)|cast('-Infinity' as float)|cast('1e400' as double)|cast('2020-1-1T' as date)|cast('2020-13-01' as date)|cast('2020-02-30' as date)|cast('2020' as date)|cast('20200101' as date)|cast('2020-01-01 ' as date)|cast('-0001-01-01' as date)|cast('2020-01-01 5' as timestamp)|cast('2020-01-01 5:6' as timestamp)|cast('2020-01-01 25:00:00' as timestamp)|cast('2020-01-01 00:00:00.1234567' as timestamp)|cast('2020-01-01 00:00:00 UTC' as timestamp)|cast('2020-01-01 00:00:00GMT+1' as timestamp)|cast('2020-01-01 00:00:00-08:00' as timestamp)|cast('2020-01-01 00:00:00+0530' as timestamp)|cast('2020-01-01 00:00Z' as timestamp)|cast('2020-01-01T00:00:00.5Z' as timestamp_ntz)|cast('yes' as boolean)|cast(' T ' as boolean)|cast('maybe' as boolean)|cast(1e20 as bigint)|cast(2147483647.9D as int)|cast(9223372036854775807D as bigint)
year(dt)|year(ts)|year(sd)|year(ntz)|quarter(dt)|month(dt)|month(ts)|day(dt)|dayofmonth(ts)|dayofyear(dt)|dayofweek(dt)|hour(ts)|hour(dt)|hour(ntz)|minute(ts)|second(ts)|hour(sd)|year(i)|date(ts)|to_date(sd)|to_date(ts)|date(sd)|timestamp(dt)|to_timestamp(sd)|date_add(dt, 1)|date_add(dt, i)|date_add(ts, 1)|date_sub(dt, 1)|date_sub(dt, ti)|datediff(dt, DATE '2020-01-01')|datediff(ts, dt)|datediff(dt, '1970-01-01')|year(null)
date_trunc('YEAR', ts)|date_trunc('quarter', ts)|date_trunc('MONTH', ts)|date_trunc('WEEK', ts)|date_trunc('DAY', ts)|date_trunc('HOUR', ts)|date_trunc('MINUTE', ts)|date_trunc('SECOND', ts)|date_trunc('MILLISECOND', ts)|date_trunc('MICROSECOND', ts)|date_trunc('DD', dt)|date_trunc('MM', ntz)|date_trunc('foo', ts)|date_trunc('hour', sd)|date_trunc('mon', ts)|trunc(dt, 'MM')|trunc(dt, 'YEAR')|trunc(dt, 'week')|trunc(ts, 'quarter')|trunc(dt, 'DAY')|trunc(dt, null)|trunc(dt, 'yy')
date_format(ts, 'yyyy-MM')|date_format(ts, 'yyyy-MM-dd')|date_format(ts, 'yyyy-MM-dd-HH')|date_format(dt, 'yyyyMMdd')|date_format(ts, 'HH:mm:ss')|date_format(ntz, "yyyy-MM-dd'T'HH")|date_format(sd, 'yyyy')|date_format(ts, 'yyyy/MM')
substring(s, 1, 3)|substring(s, 0, 2)|substring(s, -3, 2)|substring(s, -10, 7)|substring(s, 2)|substr(s, 3)|substring(s, 3, 0)|substring(s, 2, -1)|substring(s, i, 2)|substring(i, 1, 1)|substring(dt, 1, 7)|left(s, 2)|left(s, -1)|right(s, 2)|right(s, 0)|left(s, ti)|lower(s)|upper(s)|lower('ÄÖ')|upper('äö')|lower(i)|ucase('a')|lcase('A')|trim(s)|ltrim(s)|rtrim(s)|length(s)|char_length(s)|character_length(s)|octet_length(s)|length(i)|length(cast(s as binary))|concat(s, 'x')|concat('a', 5)|concat(s, i, dt)|s || sn|'a' || 5 || true|concat(s)|concat(s, null)|startswith(s, 'he')|endswith(s, 'o')|contains(s, 'll')|contains(s, '')
abs(i)|abs(l)|abs(ti)|abs(d)|abs(f)|abs(sn)|abs(wide)|floor(d)|ceil(d)|ceiling(f)|floor(f)|floor(i)|ceil(l)|floor(dec)|ceil(dec)|floor(wide)|ceil(-0.5)|round(dec)|round(dec, 1)|round(dec, 2)|round(wide, 3)|round(i)|round(wide)|round(2.5)|round(-2.5BD)|isnan(d)|isnan(f)|isnan(sn)|size(a)|size(m)|cardinality(a)|size(s)|round(dec, 0)
year(ts) = 2020 and month(ts) in (1, 2)|cast(ts as date) = dt|date_format(ts, 'yyyy-MM') = '2020-02'|length(s) > 0 and s is not null|i > 0 and (d < 10 or s like '%x%') and not b|unknown > 3|nofunction(i)|i +|i > (3|(i|i between 1|case i end|1 = 1|cast(i as foo)|abs()|year(1, 2)|i.x|`i|a > 3|st > 1
'''.strip()


def leaf(r, kind):
    columns = {
        "bool": ["b", "true", "false", "null"], "int": ["ti", "si", "i", "l", "0", "1", "-1", "3", "7L", "100", "70000", "null"],
        "num": ["f", "d", "dec", "wide", "0.5", "2.50", "1e2", "-0.0D", "0.1F", "i", "l", "si", "12.34"],
        "str": ["s", "sn", "''", "'hello'", "'42'", "'a%'", "sd", "'x'", "null"],
        "date": ["dt", "DATE '2020-02-29'", "DATE '1969-12-31'", "ts", "ntz", "TIMESTAMP '2020-02-29 13:14:15'"],
    }
    return r.choice(columns[kind])


def make(r, kind, depth):
    if depth == 0 or r.random() < 0.15:
        return leaf(r, kind)
    sub = lambda k: make(r, k, depth - 1)
    if kind == "bool":
        pick = r.randrange(12)
        k = r.choice(["int", "num", "str", "date"])
        op = r.choice(["=", "<", "<=", ">", ">=", "<>", "<=>"])
        if pick < 4:
            return f"({sub(k)} {op} {sub(k)})"
        if pick == 4:
            return f"({sub('int')} {op} {sub('num')})"
        if pick == 5:
            return f"({sub('bool')} and {sub('bool')})"
        if pick == 6:
            return f"({sub('bool')} or {sub('bool')})"
        if pick == 7:
            return f"(not {sub('bool')})"
        if pick == 8:
            return f"({sub(k)} is {r.choice(['', 'not '])}null)"
        if pick == 9:
            return f"({sub(k)} {r.choice(['', 'not '])}in ({sub(k)}, {sub(k)}, {sub(k)}))"
        if pick == 10:
            return f"({sub(k)} {r.choice(['', 'not '])}between {sub(k)} and {sub(k)})"
        return f"({sub('str')} like '{r.choice(['%a%', 'h_l%', '4%', '%', '_', '%e'])}')"
    common = [
        lambda: f"if({sub('bool')}, {sub(kind)}, {sub(kind)})", lambda: f"coalesce({sub(kind)}, {sub(kind)})",
        lambda: f"case when {sub('bool')} then {sub(kind)} when {sub('bool')} then {sub(kind)} end",
        lambda: f"nullif({sub(kind)}, {sub(kind)})",
    ]
    own = {
        "int": [lambda: f"({sub('int')} {r.choice(['+', '-', '*', '%', 'div'])} {sub('int')})"] * 3 + [
            lambda: f"{r.choice(['year', 'month', 'day', 'hour', 'minute', 'dayofweek', 'dayofyear', 'quarter'])}({sub('date')})",
            lambda: f"length({sub('str')})", lambda: f"abs({sub('int')})", lambda: f"(-{sub('int')})",
            lambda: f"cast({sub('num')} as {r.choice(['int', 'bigint', 'smallint'])})", lambda: f"cast({sub('str')} as int)",
            lambda: f"datediff({sub('date')}, {sub('date')})",
        ],
        "num": [lambda: f"({sub('num')} {r.choice(['+', '-', '*', '/', '%'])} {sub(r.choice(['num', 'int']))})"] * 3 + [
            lambda: f"cast({sub('int')} as {r.choice(['double', 'float', 'decimal(20,4)'])})", lambda: f"abs({sub('num')})",
            lambda: f"cast({sub('num')} as {r.choice(['decimal(12,3)', 'double', 'decimal(38,6)'])})", lambda: f"floor({sub('num')})",
            lambda: f"cast({sub('str')} as double)",
        ],
        "str": [
            lambda: f"substring({sub('str')}, {r.randrange(-4, 5)}, {r.randrange(-1, 5)})", lambda: f"concat({sub('str')}, {sub('str')})",
            lambda: f"cast({sub(r.choice(['int', 'date', 'bool']))} as string)", lambda: f"trim({sub('str')})",
            lambda: f"date_format({sub('date')}, 'yyyy-MM-dd HH')", lambda: f"({sub('str')} || {sub('int')})",
        ],
        "date": [
            lambda: f"date_add({sub('date')}, {r.randrange(-400, 400)})", lambda: f"cast({sub('date')} as date)",
            lambda: f"date_trunc('{r.choice(['DAY', 'MONTH', 'HOUR', 'WEEK', 'YEAR'])}', {sub('date')})",
            lambda: f"trunc({sub('date')}, '{r.choice(['MM', 'YEAR', 'WEEK', 'QUARTER'])}')",
            lambda: f"cast({sub('date')} as timestamp)",
        ],
    }
    return r.choice(common + own[kind] * 2)()


def sql_row(row):
    out = []
    for (name, t), v in zip(COLUMNS, row):
        if v is None:
            out.append(f"cast(null as {t})")
        else:
            text = str(v).replace("\\", "\\\\").replace("'", "\\'")
            out.append(f"cast('{text}' as {t})")
    if row[3] is None:
        rest = ["cast(null as struct<x: int, `y z`: string, deep: struct<z: date>>)", "cast(null as array<int>)", "cast(null as map<string, int>)"]
    else:
        rest = [f"named_struct('x', {out[3]}, 'y z', {out[9]}, 'deep', named_struct('z', {out[12]}))", f"array({out[3]}, 2)", f"map('k', {out[3]})"]
    return "(" + ", ".join(out + rest) + ")"


def main():
    spark = (SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
             .config("spark.sql.session.timeZone", "UTC").config("spark.driver.memory", "1g").getOrCreate())
    spark.sparkContext.setLogLevel("OFF")
    names = ", ".join([n for n, _ in COLUMNS] + ["st", "a", "m"])

    def values(expression, kind, rows):
        wrapped = expression
        if kind == "date":
            wrapped = f"unix_date({expression})"
        elif kind == "timestamp":
            wrapped = f"unix_micros({expression})"
        elif kind == "timestamp_ntz":
            wrapped = f"unix_micros(cast({expression} as timestamp))"
        elif kind == "binary":
            wrapped = f"hex({expression})"
        elif kind.startswith("decimal"):
            wrapped = f"cast({expression} as string)"
        query = f"select {wrapped} from values {', '.join(sql_row(r) for r in rows)} as t({names})"
        out = []
        for row in spark.sql(query).collect():
            v = row[0]
            if isinstance(v, bool):
                v = str(v).lower()
            elif v is not None:
                v = str(v)
            out.append(v)
        return out

    expressions = [e for line in EXPRESSIONS.split("\n") for e in split(line)]
    r = random.Random(20260701)
    for depth, count in ((1, 200), (2, 300), (3, 150)):
        for _ in range(count):
            expressions.append(make(r, r.choice(["bool", "bool", "int", "num", "str", "date"]), depth))
    cases, seen = [], set()
    for e in expressions:
        if e in seen:
            continue
        seen.add(e)
        try:
            kind = spark.sql(f"select {e} from values {sql_row(ROWS[0])} as t({names})").schema[0].dataType.simpleString()
        except Exception:
            cases.append({"e": e, "t": None})
            continue
        try:
            got = values(e, kind, ROWS)
        except Exception:
            got = []
            for row in ROWS:
                try:
                    got += values(e, kind, [row])
                except Exception:
                    got.append(False)
        cases.append({"e": e, "t": kind, "v": got})
    rows = [dict(zip([n for n, _ in COLUMNS], row)) for row in ROWS]
    for row in rows:
        if row["i"] is not None:
            row["st"] = {"x": row["i"], "y z": row["s"], "deep": {"z": row["dt"]}}
            row["a"] = [row["i"], 2]
            row["m"] = [{"key": "k", "value": row["i"]}]
    with open(os.path.join(HERE, "spark.json"), "w", encoding="utf-8") as f:
        f.write('{"spark": %s, "rows": [\n' % json.dumps(spark.version))
        f.write(",\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
        f.write('\n], "cases": [\n')
        f.write(",\n".join(json.dumps(c, ensure_ascii=False) for c in cases))
        f.write("\n]}\n")
    spark.stop()


def split(line):
    """Divides at | where it stands alone: || is an operator, (a|b) a pattern."""
    out, current, depth, quote, at = [], "", 0, None, 0
    while at < len(line):
        c = line[at]
        if quote:
            if c == "\\":
                current += c
                at += 1
                c = line[at]
            elif c == quote:
                quote = None
        elif line.startswith("||", at):
            current += "||"
            at += 2
            continue
        elif c == "|":
            out.append(current)
            current = ""
            at += 1
            continue
        elif c in "'\"" and current not in ("'abc",):
            quote = c
        current += c
        at += 1
    return out + [current]


if __name__ == "__main__":
    main()
