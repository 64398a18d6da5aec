# Run the newest fitting Python with the arguments given. Fitting: it starts, is 3.11 or newer, and can make environments.
# PYTHON names one to take instead. A name on the PATH is not enough: it may be a stub, or a system Python without venv.
for python in ${PYTHON:-python3.13 python3.12 python3.11 python3 python}; do
    if "$python" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
        exec "$python" "$@"
    fi
done
echo "Backstory needs Python 3.11 or newer with the venv module; tried: ${PYTHON:-python3.13 python3.12 python3.11 python3 python}." >&2
echo "On Debian and Ubuntu: apt-get install python3 python3-venv. Another Python: make PYTHON=/path/to/python3 ..." >&2
exit 1
