from engine.machine import cpu_name


def test_the_processor_has_a_name() -> None:
    assert cpu_name().strip()
