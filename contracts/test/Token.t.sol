// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AlephToken} from "../src/AlephToken.sol";
import {DevGuardian} from "../src/dev/DevGuardian.sol";
import {DevOnly} from "../src/dev/DevOnly.sol";
import {IAlephToken} from "../src/interfaces/IAlephToken.sol";
import {IDeployer} from "../src/interfaces/IDeployer.sol";
import {AlephErrors} from "../src/libraries/AlephErrors.sol";
import {Suite} from "./utils/Suite.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";

contract TokenTest is Suite {
    address internal constant ALICE = address(0xA11CE);

    function test_token_describesItself() public view {
        assertEq(token.name(), "Aleph");
        assertEq(token.symbol(), "ALEPH");
        assertEq(token.decimals(), 18);
        assertEq(token.gateway(), address(gateway));
        assertEq(token.l1Address(), address(0));
    }

    function test_token_knowsTheOneOnTheParentChain() public {
        AlephToken bridged =
            AlephToken(_create(abi.encodePacked(_code("AlephToken"), abi.encode(ALICE, address(0xBEEF)))));
        assertEq(bridged.gateway(), ALICE);
        assertEq(bridged.l1Address(), address(0xBEEF));
    }

    function testFuzz_supply_changesByBridgeAndBurnOnly(uint96 minted, uint96 bridged, uint96 burned) public {
        uint256 supply = token.totalSupply();
        minted = uint96(bound(minted, 2, type(uint96).max));
        bridged = uint96(bound(bridged, 0, minted / 2));
        burned = uint96(bound(burned, 0, minted / 2));
        gateway.mint(token, ALICE, minted);
        vm.prank(address(gateway));
        token.bridgeBurn(ALICE, bridged);
        vm.prank(ALICE);
        token.burn(burned);
        assertEq(token.totalSupply(), supply + minted - bridged - burned, "TOK-1");
    }

    function testFuzz_bridge_revertsForAnyoneElse(address caller) public {
        vm.assume(caller != address(gateway));
        bytes memory err = abi.encodeWithSelector(IAlephToken.OnlyGateway.selector, caller);
        vm.startPrank(caller);
        vm.expectRevert(err);
        token.bridgeMint(caller, 1);
        vm.expectRevert(err);
        token.bridgeBurn(caller, 1);
    }

    function test_token_revertsWithoutGateway() public {
        bytes memory code = abi.encodePacked(_code("AlephToken"), abi.encode(address(0), address(0)));
        vm.expectRevert(AlephErrors.ZeroAddress.selector);
        _create(code);
    }

    function test_gateway_revertsOffTheDevelopmentChain() public {
        bytes memory code = abi.encodePacked(_code("DevGateway"), abi.encode(ALICE));
        vm.chainId(42161);
        vm.expectRevert(abi.encodeWithSelector(DevOnly.NotADevelopmentChain.selector, 42161));
        _create(code);
    }

    function test_gateway_revertsWithoutOwner() public {
        bytes memory code = abi.encodePacked(_code("DevGateway"), abi.encode(address(0)));
        vm.expectRevert(AlephErrors.ZeroAddress.selector);
        _create(code);
    }

    function test_gateway_mintRevertsForAnyoneElse() public {
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, ALICE));
        vm.prank(ALICE);
        gateway.mint(token, ALICE, 1);
    }

    function test_deploy_givesTheAddressForetold() public {
        address at = deployer.addressOf("another");
        bytes memory code = _code("Deployer");
        vm.expectEmit(address(deployer));
        emit IDeployer.Deployed("another", at);
        assertEq(deployer.deploy("another", code), at);
        assertGt(at.code.length, 0);
        vm.expectRevert();
        deployer.deploy("another", code);
    }

    function test_deploy_revertsForAnyoneElse() public {
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, ALICE));
        vm.prank(ALICE);
        deployer.deploy("x", hex"00");
    }

    function test_devGuardian_doesWhatItsOwnerSays() public {
        DevGuardian guardian = DevGuardian(_create(abi.encodePacked(_code("DevGuardian"), abi.encode(payer))));
        bytes memory data = abi.encodeCall(token.transfer, (address(1), 1 ether));
        vm.expectRevert(abi.encodeWithSelector(AlephErrors.NotAuthorized.selector, address(this)));
        guardian.execute(address(token), data);

        gateway.mint(token, address(guardian), 1 ether);
        vm.prank(payer);
        assertEq(guardian.execute(address(token), data), abi.encode(true));
        assertEq(token.balanceOf(address(1)), 1 ether);
        vm.expectRevert(
            abi.encodeWithSelector(IERC20Errors.ERC20InsufficientBalance.selector, address(guardian), 0, 1 ether)
        );
        vm.prank(payer);
        guardian.execute(address(token), data);
    }

    function test_devGuardian_isForDevelopmentNetworksOnly() public {
        bytes memory code = _code("DevGuardian");
        vm.expectRevert(AlephErrors.ZeroAddress.selector);
        _create(abi.encodePacked(code, abi.encode(address(0))));
        vm.chainId(42161);
        vm.expectRevert(abi.encodeWithSelector(DevOnly.NotADevelopmentChain.selector, 42161));
        _create(abi.encodePacked(code, abi.encode(address(this))));
    }
}
