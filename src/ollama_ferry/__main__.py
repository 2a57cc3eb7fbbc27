"""What the command begins with: the installed script, ``python -m ollama_ferry``, and the one-file programs."""

import signal


def main() -> None:
    """Load the command line and run it.

    Until it is loaded there is nothing to tidy up: an interrupt ends the process at once, and prints no list of modules
    that were being loaded.
    """
    default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if default:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from ollama_ferry import cli

    if default:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()


if __name__ == "__main__":
    main()
