#!/bin/sh
# A stand-in for `stripe projects … --json`, the command line of Stripe Projects in its public
# preview: the envelopes, codes and files it is known to speak, over state in the directory it is
# run in. It keeps each command it was given in `calls`. A file named `fault-COMMAND` makes that
# command die after its effect without an answer, once; `blocked` makes preflight fail.
set -u
log() { printf '%s\n' "$*" >>calls; }
answer() { # command, data
    printf '{"ok":true,"command":"%s","version":"0.23.0","data":%s,"warnings":[],"next_steps":[],"meta":{"authenticated":true,"project_initialized":true}}\n' "$1" "$2"
}
refuse() { # command, code, message, details
    printf '{"ok":false,"command":"%s","version":"0.23.0","data":null,"error":{"code":"%s","message":"%s","details":%s},"meta":{"authenticated":false}}\n' "$1" "$2" "$3" "$4"
    exit 1
}
die_if_planted() {
    if [ -e "fault-$1" ]; then
        rm "fault-$1"
        kill -9 $$
    fi
}
log "$@"
[ "$1" = projects ] || exit 2
shift
for last; do :; done
[ "$last" = --json ] || exit 2
mkdir -p .projects/made
command=$1
case "$command" in
init)
    checks='{"label":"Stripe CLI is current","pass":true}'
    failed=
    if [ -e blocked ]; then
        checks="$checks,{\"label\":\"Signed in\",\"pass\":false,\"code\":\"BROWSER_AUTH_REQUIRED\",\"remedy\":\"stripe projects init\"},{\"label\":\"Account can use Projects\",\"pass\":false,\"code\":\"ACCOUNT_NOT_ELIGIBLE\",\"remedy\":\"use another account\"},{\"label\":\"A check of tomorrow\",\"pass\":false,\"code\":\"REGION_CLOSED\"}"
        failed=BROWSER_AUTH_REQUIRED
    fi
    case " $* " in
    *" --accept-tos "*) ;;
    *)
        checks="$checks,{\"label\":\"Terms accepted\",\"pass\":false,\"code\":\"TOS_ACCEPTANCE_REQUIRED\",\"remedy\":\"pass --accept-tos\"}"
        failed=${failed:-TOS_ACCEPTANCE_REQUIRED}
        ;;
    esac
    [ -z "$failed" ] || refuse init "$failed" "not ready" "{\"preflight\":[$checks]}"
    answer init "{\"preflight\":[$checks],\"ready\":true}"
    ;;
catalog)
    answer catalog '{"last_updated":"2026-11-01T00:00:00Z","services":[
{"provider_name":"Neon","service_id":"postgres","description":"Serverless Postgres","kind":"service","pricing":{"type":"paid"}},
{"provider_name":"PostHog","service_id":"analytics","description":"Product analytics","kind":"service","pricing":{"type":"component"}}]}'
    ;;
services)
    rows=
    for made in .projects/made/*; do
        [ -e "$made" ] || continue
        read -r reference plan <"$made"
        rows="$rows${rows:+,}{\"name\":\"${made##*/}\",\"reference\":\"$reference\",\"plan\":\"$plan\",\"status\":\"active\"}"
    done
    answer services "{\"services\":[$rows]}"
    ;;
add)
    reference=$2 name=$4
    case " $* " in
    *" --accept-tos "*) ;;
    *) refuse add TOS_ACCEPTANCE_REQUIRED "accept the terms" null ;;
    esac
    [ ! -e paid-plan-required ] || refuse add PLAN_REQUIRED "no way to pay" null
    [ ! -e ".projects/made/$name" ] || refuse add RESOURCE_EXISTS "exists" null
    printf '%s small\n' "$reference" >".projects/made/$name"
    die_if_planted add
    answer add "{\"resource\":{\"name\":\"$name\",\"reference\":\"$reference\"}}"
    ;;
upgrade | downgrade)
    name=$2 plan=$4
    [ -e ".projects/made/$name" ] || refuse "$command" RESOURCE_NOT_FOUND "no such resource" null
    read -r reference _ <".projects/made/$name"
    printf '%s %s\n' "$reference" "$plan" >".projects/made/$name"
    die_if_planted "$command"
    answer "$command" "{\"plan\":\"$plan\"}"
    ;;
remove)
    rm ".projects/made/$2" 2>/dev/null || refuse remove RESOURCE_NOT_FOUND "no such resource" null
    die_if_planted remove
    answer remove '{}'
    ;;
env)
    : >.env
    for made in .projects/made/*; do
        [ -e "$made" ] || continue
        name=$(printf '%s' "${made##*/}" | tr a-z A-Z)
        printf '# %s\n%s_CONNECTION_STRING="postgresql://u:s3cret-%s@db.invalid/x?sslmode=require"\n%s_API_KEY=key-%s\n' \
            "$name" "$name" "$name" "$name" "$name" >>.env
    done
    die_if_planted env
    answer env '{"written":".env","values":"redacted"}'
    ;;
*) refuse "$command" UNKNOWN_COMMAND "no such command" null ;;
esac
