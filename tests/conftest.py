"""What all tests share: the numbers that tests recorded are printed at the end of the run."""


def pytest_terminal_summary(terminalreporter):
    for report in terminalreporter.stats.get("passed", []):
        if report.when == "call" and report.user_properties:
            recorded = ", ".join(f"{name} {value}" for name, value in report.user_properties)
            terminalreporter.write_line(f"{report.nodeid.split('::')[-1]}: {recorded}")
