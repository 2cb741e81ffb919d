/// What plugins of all languages have.
enum CommonTemplate {
  /// exports.map.
  static let exports =
    ##"""
    { global: backplane_plugin_v1; local: *; };

    """##

  /// manifest.json of a backend.
  static let backendManifest =
    ##"""
    {
      "id": "{{id}}",
      "version": "1.0.0",
      "kinds": ["backend"],
      "schemes": ["{{slug}}"],
      "abi": { "major": 0, "minor": 1 },
      "volatile": true,{{state}}
      "runtime": "{{language}}"
    }

    """##

  /// manifest.json of a schema.
  static let schemaManifest =
    ##"""
    {
      "id": "{{id}}",
      "version": "1.0.0",
      "kinds": ["schema"],
      "abi": { "major": 0, "minor": 1 },
      "volatile": true,
      "runtime": "{{language}}"
    }

    """##

  /// manifest.json of a transport.
  static let transportManifest =
    ##"""
    {
      "id": "{{id}}",
      "version": "1.0.0",
      "kinds": ["transport"],
      "abi": { "major": 0, "minor": 1 },
      "runtime": "{{language}}",
      "listeners": [{ "name": "lines", "config_key": "port", "default": 9950 }]
    }

    """##

  /// manifest.json of a service.
  static let serviceManifest =
    ##"""
    {
      "id": "{{id}}",
      "version": "1.0.0",
      "kinds": ["service"],
      "abi": { "major": 0, "minor": 1 },
      "runtime": "{{language}}"
    }

    """##

  /// README.md.
  static let readme =
    ##"""
    # {{name}}

    A Backplane {{kind}} in {{Language}}: {{what}}

    Build it{{buildNote}}:

    ```
    {{build}}
    ```

    Check it without a node:

    ```
    backplane plugin check {{library}}
    ```

    Drop it into one of the node's plugin directories (`install` makes a new file, where `cp` would write over the old one):

    ```
    install -m 644 {{library}} /path/to/plugins.d/{{slug}}.so
    ```

    Give it a slot, in a file such as `conf.d/{{slug}}.yaml` beside the node's `backplane.yaml`, and let the node take it up:

    ```yaml
    slots:
      {{slug}}:
    {{slot}}
    ```

    ```
    backplane reload
    ```

    {{notes}}

    Id and version stand in `manifest.json` and in the code, and must agree. For a new version, change the version in both,
    build, drop it over the old file and reload.

    """##
}
