// The C types are part of what a plugin's direct methods see (views, tokens), so a plugin imports one module.
@_exported import BackplaneABI
