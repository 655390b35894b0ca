@echo off
rem Double-click on Windows: opens distill's page in a browser. The first time, it makes the environment that distill
rem needs, in the folder .venv beside this file.
cd /d "%~dp0"
if exist .venv\.installed goto open
py -3 -c "import sys; sys.exit(sys.version_info < (3, 11))"
if errorlevel 1 (
    echo distill needs Python 3.11 or newer. Install it from python.org, then open this file again.
    goto failed
)
echo Installing distill here, once. This takes a few minutes.
py -3 -m venv .venv || goto failed
.venv\Scripts\python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . || goto failed
type nul > .venv\.installed
:open
.venv\Scripts\python -m distill web %*
if errorlevel 1 goto failed
exit /b 0
:failed
pause
exit /b 1
